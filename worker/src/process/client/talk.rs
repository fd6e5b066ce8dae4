//! What goes to and fro between a worker and a supervisor.

use std::{io, path::Path, time::Duration};

use tokio::{net::UnixStream, time::Instant};

use super::super::link;

/// How often output is looked for even when nobody said that there is any.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a supervisor said.
pub(super) enum Word {
    /// There may be more output.
    Grew,
    /// It is gone.
    Closed,
}

/// Waits for a word, and sends pending input meanwhile.
pub(super) async fn listen(
    orders: &UnixStream,
    input: Option<&UnixStream>,
    pending: &mut Vec<u8>,
) -> Word {
    loop {
        tokio::select! {
            ready = orders.readable() => {
                if ready.is_err() {
                    return Word::Closed;
                }
                let mut words = [0; 256];
                match orders.try_read(&mut words) {
                    Ok(0) => return Word::Closed,
                    Ok(_) => return Word::Grew,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Word::Closed,
                }
            }
            sent = send_pending(input, pending), if !pending.is_empty() => {
                if sent.is_err() {
                    pending.clear();
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => return Word::Grew,
        }
    }
}

/// Waits until some of it can be sent, and sends that; for ever while there is no way for it.
pub(super) async fn send_pending(
    input: Option<&UnixStream>,
    pending: &mut Vec<u8>,
) -> io::Result<()> {
    match input {
        Some(input) => {
            input.writable().await?;
            flush(input, pending)
        }
        None => std::future::pending().await,
    }
}

/// Sends what goes without waiting.
pub(super) fn flush(input: &UnixStream, pending: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    let result = loop {
        match input.try_write(&pending[sent..]) {
            Ok(0) => break Ok(()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    pending.drain(..sent);
    result
}

/// Whether nobody listens on the socket any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

pub(super) fn stream(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::from_std(link::connect(dir)?)
}

/// Waits for something until a moment, if there is one.
pub(super) async fn unless_due<T>(
    due: Option<Instant>,
    wait: impl Future<Output = T>,
) -> Option<T> {
    match due {
        Some(due) => tokio::time::timeout_at(due, wait).await.ok(),
        None => Some(wait.await),
    }
}
