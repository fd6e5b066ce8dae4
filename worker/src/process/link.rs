//! The words between a worker and a supervisor: frames one way, single bytes the other way.
//!
//! A frame is one byte that says what it is, the length of its payload (u32, little endian) and
//! the payload. Frames are handled in the order of one connection, so orders have one connection
//! and input, once there is some, has another: an order never waits behind input that the CLI does not read.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::files::SOCKET;

/// Largest payload of one frame: longer input is sent in several.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// What the supervisor says when there may be more output.
pub(super) const GREW: u8 = b'+';

/// What a worker can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes for the CLI's standard input.
    Input(Vec<u8>),
    /// Close its standard input.
    CloseInput,
    /// SIGINT to its process group.
    Interrupt,
    /// SIGTERM to its process group.
    Terminate,
    /// End everything.
    Kill,
}

impl Frame {
    /// The bytes of it.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Input(bytes) => (b'D', bytes),
            Self::CloseInput => (b'C', b""),
            Self::Interrupt => (b'I', b""),
            Self::Terminate => (b'T', b""),
            Self::Kill => (b'K', b""),
        };
        let length = u32::try_from(payload.len()).expect("a payload is at most 64 KiB");
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads one; none at the end of the stream.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        if from.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        match kind[0] {
            b'D' => Ok(Some(Self::Input(payload))),
            b'C' => Ok(Some(Self::CloseInput)),
            b'I' => Ok(Some(Self::Interrupt)),
            b'T' => Ok(Some(Self::Terminate)),
            b'K' => Ok(Some(Self::Kill)),
            other => Err(io::Error::other(format!("a frame of unknown kind {other}"))),
        }
    }
}

/// Waits for workers in `dir`.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    short(dir, |path| {
        let listener = UnixListener::bind(&path)?;
        // Nobody else gets into the directory in between.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    })
}

/// Makes room for another supervisor in `dir`, where one has ended that waited already.
pub(super) fn unlisten(dir: &Path) {
    // Whoever listens next says what is wrong with it.
    let _is_never_there = fs::remove_file(dir.join(SOCKET));
}

/// Reaches the supervisor of `dir`, by a stream that never blocks. `WouldBlock` where too many wait for it.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    short(dir, |path| {
        let address = SocketAddrUnix::new(path)?;
        rustix::net::connect(&stream, &address).map_err(io::Error::from)
    })?;
    Ok(stream.into())
}

/// Calls `act` with a path of the socket that is never longer than a socket's address may be.
fn short<T>(dir: &Path, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let dir = File::open(dir)?;
    act(PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_a_round_trip() {
        let frames = [
            Frame::Input(b"line\n\0".to_vec()),
            Frame::Input(vec![7; PAYLOAD_BYTES_MAX]),
            Frame::CloseInput,
            Frame::Interrupt,
            Frame::Terminate,
            Frame::Kill,
        ];
        let bytes = frames.iter().flat_map(Frame::encode).collect::<Vec<_>>();
        let mut from = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut from).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused_before_it_is_read() {
        assert!(Frame::read(&mut [b'D', 0xff, 0xff, 0xff, 0xff].as_slice()).is_err());
    }
}
