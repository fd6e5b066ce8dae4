//! Puts the services behind TLS and the gate, and serves them.

use std::sync::Arc;

use orchestra_proto::v1::{
    admin_server::AdminServer, bulk_server::BulkServer, fleet_server::FleetServer,
};
use orchestra_types::limits;
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};

use super::{Services, admin::Admin, bulk::Bulk, fleet::Fleet};

/// Streams of one connection: a client with more is not one of ours.
const STREAMS_MAX: u32 = 1024;
/// HTTP/2 windows: enough for 100 MB/s at 10 ms.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves until the stop is wished, and then until the calls that run have ended.
pub async fn serve(
    listener: TcpListener,
    services: Arc<Services>,
) -> Result<(), tonic::transport::Error> {
    // `serve_with_incoming` ignores the builder's own TCP settings.
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(limits::KEEPALIVE_EVERY));
    let stop = services.stop.clone();
    let admin = AdminServer::new(Admin {
        services: Arc::clone(&services),
    });
    let fleet = FleetServer::new(Fleet {
        services: Arc::clone(&services),
    });
    let bulk = BulkServer::new(Bulk {
        services: Arc::clone(&services),
    });
    Server::builder()
        .tls_config(services.security.server_tls())?
        .http2_keepalive_interval(Some(limits::KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .layer(services.security.gate())
        .add_service(admin.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(fleet.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(bulk.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(services.security.join_service())
        .serve_with_incoming_shutdown(incoming, async move { stop.wished().await })
        .await
}
