//! The second TCP connection to the head: bytes and events, which must never stand before
//! control. Made when it is first needed, made again when it broke.

use std::{path::PathBuf, sync::Arc, time::Duration};

use orchestra_proto::{
    client::{self, ConnectError, Credentials, CredentialsError},
    v1::bulk_client::BulkClient,
};
use tokio::sync::Mutex;
use tonic::transport::Channel;

/// How long a failed transfer waits before it is tried again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where the head is and what proves who we are. Read anew for each connection, so that a head
/// that came back on another port, or a renewed certificate, is found.
#[derive(Clone, Debug)]
pub struct Target {
    /// Directory of the credentials and of `endpoint`.
    pub credentials: PathBuf,
    /// `HOST:PORT`, where one was given by hand.
    pub endpoint: Option<String>,
}

/// Why the head could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is nothing to identify ourselves with.
    #[error("no usable credentials; join a cluster with `orchestra-worker join`")]
    Credentials(#[from] CredentialsError),
    /// Nobody said where the head is.
    #[error("failed to read the head's address from `{path}`")]
    Endpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It did not work.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl DialError {
    /// Whether our certificate has expired.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(error, ConnectError::Expired { .. }),
            Self::Credentials(_) | Self::Endpoint { .. } => false,
        }
    }

    /// Whether nobody has said where the head is.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Endpoint { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Credentials(_) | Self::Connect(_) => false,
        }
    }
}

impl Target {
    /// Connects, on the runtime of the caller.
    pub async fn connect(&self) -> Result<Channel, DialError> {
        let credentials = Credentials::load(&self.credentials)?;
        Ok(client::connect(&credentials, &self.endpoint()?).await?)
    }

    /// Connects for a caller who sends heartbeats and counts the answers.
    pub async fn connect_to_beat(&self) -> Result<Channel, DialError> {
        let credentials = Credentials::load(&self.credentials)?;
        Ok(client::connect_to_beat(&credentials, &self.endpoint()?).await?)
    }

    /// The head's address.
    pub fn endpoint(&self) -> Result<String, DialError> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let path = self.credentials.join("endpoint");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(source) => Err(DialError::Endpoint { path, source }),
        }
    }
}

/// The connection for bulk data; cheap to clone.
#[derive(Clone, Debug)]
pub struct Bulk {
    target: Arc<Target>,
    channel: Arc<Mutex<Option<Channel>>>,
}

impl Bulk {
    /// A connection to be.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            channel: Arc::default(),
        }
    }

    /// The client on the one connection.
    pub async fn client(&self) -> Result<BulkClient<Channel>, DialError> {
        let mut slot = self.channel.lock().await;
        let channel = match &*slot {
            Some(channel) => channel.clone(),
            None => slot.insert(self.target.connect().await?).clone(),
        };
        Ok(BulkClient::new(channel))
    }

    /// A call failed on it: the next one dials anew.
    pub async fn forget(&self) {
        *self.channel.lock().await = None;
    }
}
