//! A file through TLS on loopback into another file, made durable: what the machine can do.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use orchestra_types::limits;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::{CryptoProvider, ring},
    pki_types::{PrivateKeyDer, ServerName},
};

const NAME: &str = "copy.test";

/// Both ends, with a certificate of their own.
pub struct Pair {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    pub fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(|why| anyhow::anyhow!("no key: {why}"))?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// Copies; how long it took until the copy was durable.
    pub fn run(&self, from: &Path, to: &Path) -> anyhow::Result<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (server, to) = (Arc::clone(&self.server), to.to_owned());
        let began = Instant::now();
        let receiver = thread::spawn(move || receive(&listener, server, &to));
        let name = ServerName::try_from(NAME)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut tls = StreamOwned::new(connection, socket);
        let mut file = File::open(from)?;
        pump(&mut file, &mut tls)?;
        tls.conn.send_close_notify();
        tls.flush()?;
        let received = receiver.join();
        received.map_err(|_| anyhow::anyhow!("the receiver failed"))??;
        Ok(began.elapsed())
    }
}

fn receive(listener: &TcpListener, config: Arc<ServerConfig>, to: &Path) -> anyhow::Result<()> {
    let (socket, _) = listener.accept()?;
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, socket);
    let mut file = File::create(to)?;
    pump(&mut tls, &mut file)?;
    file.sync_data()?;
    Ok(())
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n])?;
    }
}
