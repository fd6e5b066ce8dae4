//! The Fleet service: one control stream for each worker.

use std::{net::SocketAddr, sync::Arc};

use orchestra_proto::v1::{self, fleet_server};
use orchestra_types::Timestamp;
use tonic::{Request, Response, Streaming};

use super::{
    Services, session,
    status::Result,
    stream::{self, Stream},
};
use crate::security::{self, Identity};

/// The Fleet service.
pub(super) struct Fleet {
    pub services: Arc<Services>,
}

/// Who calls, and from where.
pub(super) struct Peer {
    pub identity: Identity,
    pub address: Option<SocketAddr>,
    /// Until when its certificate is good.
    pub until: Option<Timestamp>,
}

#[tonic::async_trait]
impl fleet_server::Fleet for Fleet {
    type AttachStream = Stream<v1::HeadMessage>;

    /// Answers at once: a worker may wait for the answer before it says Hello.
    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>> {
        // Boxed: a session lets it go once it is attached.
        let peer = Box::new(Peer {
            identity: security::caller(&request)?.clone(),
            address: request.remote_addr(),
            until: security::certificate_until(&request),
        });
        let services = Arc::clone(&self.services);
        let stream = stream::produce(&self.services, move |answers| {
            session::run(services, peer, request.into_inner(), answers)
        });
        Ok(Response::new(stream))
    }
}
