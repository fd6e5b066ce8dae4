//! Which address the head listens on, and which one others reach it by.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::Context;
use orchestra_config::durable::{self, Access};
use tokio::net::TcpListener;

/// The port that a new head takes, if it is free.
const PORT: u16 = 7117;

/// Listens on `wanted`; without it where it did the last time (kept in `kept`), so that others find it
/// again; else on loopback at 7117, or at any free port.
pub async fn bind(wanted: Option<SocketAddr>, kept: &Path) -> anyhow::Result<TcpListener> {
    let listener = match wanted {
        Some(address) => TcpListener::bind(address).await.with_context(|| {
            format!("failed to listen on {address}; is it taken? `--listen` chooses another one")
        })?,
        None => bind_again(last(kept)).await?,
    };
    let text = format!("{}\n", listener.local_addr()?);
    let noted = durable::write(kept, text.as_bytes(), Access::Private);
    noted.with_context(|| format!("failed to write `{}`", kept.display()))?;
    Ok(listener)
}

/// An address that this machine has no more, as after a change of networks, is told and not insisted on.
async fn bind_again(last: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let Some(last) = last else {
        return bind_loopback(None).await;
    };
    if last.ip().is_loopback() {
        return bind_loopback(Some(last.port())).await;
    }
    match TcpListener::bind(last).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(
                %last, %error,
                "the address of the last time cannot be had: only this machine reaches the head now; \
                 `--listen` chooses another one"
            );
            bind_loopback(Some(last.port())).await
        }
    }
}

async fn bind_loopback(last: Option<u16>) -> anyhow::Result<TcpListener> {
    for port in last.into_iter().chain([PORT, 0]) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 => {
                tracing::warn!(port, "the port is taken; trying another one");
            }
            Err(error) => return Err(error).context(format!("failed to listen on {address}")),
        }
    }
    anyhow::bail!("there is no free port on 127.0.0.1")
}

/// Where it listened the last time. An earlier version kept the port alone.
fn last(kept: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(kept).ok()?;
    let port = |text: &str| {
        let port = text.parse().ok()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let last = text.trim().parse().ok().or_else(|| port(text.trim()))?;
    Some(last).filter(|last| last.port() != 0)
}

/// `HOST:PORT` for this machine's own clients: an address that means "all" cannot be dialled.
pub fn local_endpoint(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// `HOST:PORT` for other machines.
pub fn advertised(listen: SocketAddr, wanted: Option<&str>) -> String {
    match wanted {
        Some(wanted) => wanted.to_owned(),
        None if listen.ip().is_unspecified() => {
            let name = hostname::get().ok();
            let name = name.and_then(|name| name.into_string().ok());
            format!(
                "{}:{}",
                name.as_deref().unwrap_or("localhost"),
                listen.port()
            )
        }
        None => listen.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_port_stays_from_one_start_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("port");
        let any = Some("127.0.0.1:0".parse().unwrap());
        let first = bind(any, &kept).await.unwrap().local_addr().unwrap();
        let second = bind(None, &kept).await.unwrap().local_addr().unwrap();
        assert_eq!(first.port(), second.port());
    }

    #[tokio::test]
    async fn so_does_an_address_that_other_machines_reach() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("port");
        let all = Some("0.0.0.0:0".parse().unwrap());
        let first = bind(all, &kept).await.unwrap().local_addr().unwrap();
        let second = bind(None, &kept).await.unwrap().local_addr().unwrap();
        assert_eq!(first, second);
        // One that is of no interface here: for documentation, RFC 5737.
        fs::write(&kept, "192.0.2.1:7999\n").unwrap();
        let third = bind(None, &kept).await.unwrap().local_addr().unwrap();
        assert!(third.ip().is_loopback(), "{third}");
        fs::write(&kept, format!("{}\n", first.port())).unwrap();
        let early = bind(None, &kept).await.unwrap().local_addr().unwrap();
        assert_eq!(early, SocketAddr::from((Ipv4Addr::LOCALHOST, first.port())));
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_only_when_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("port");
        let any = Some("127.0.0.1:0".parse().unwrap());
        let first = bind(any, &kept).await.unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind(Some(taken), &kept).await.unwrap_err().to_string();
        assert!(error.contains("--listen"), "{error}");
        let other = bind(None, &kept).await.unwrap().local_addr().unwrap();
        assert_ne!(other.port(), taken.port());
    }

    #[test]
    fn a_wildcard_is_dialled_on_loopback() {
        let local = |text: &str| local_endpoint(text.parse().unwrap()).to_string();
        assert_eq!(local("0.0.0.0:7117"), "127.0.0.1:7117");
        assert_eq!(local("[::]:7117"), "[::1]:7117");
        assert_eq!(local("10.0.0.7:1"), "10.0.0.7:1");
    }
}
