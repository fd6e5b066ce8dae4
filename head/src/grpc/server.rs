//! Puts the services behind the door and the gate, and serves them.

use std::sync::Arc;

use orchestra_proto::v1::{
    admin_server::AdminServer, bulk_server::BulkServer, fleet_server::FleetServer,
};
use orchestra_types::limits;
use tonic::transport::Server;
use tower::util::MapFutureLayer;

use super::{Services, admin::Admin, bulk::Bulk, fleet::Fleet};
use crate::door::Door;

/// Streams of one connection: a client with more is not one of ours.
const STREAMS_MAX: u32 = 1024;
/// HTTP/2 windows: enough for 100 MB/s at 10 ms.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves until the stop is wished, and then until the calls that run have ended.
pub async fn serve(door: Door, services: Arc<Services>) -> Result<(), tonic::transport::Error> {
    let stop = services.stop.clone();
    let calls = services.tracker.clone();
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
        .http2_keepalive_interval(Some(limits::KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .layer(services.security.gate())
        .layer(MapFutureLayer::new(move |call| calls.track_future(call)))
        .add_service(admin.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(fleet.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(bulk.max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
        .add_service(services.security.join_service())
        .add_service(services.security.renewal_service())
        .serve_with_incoming_shutdown(door, async move { stop.wished().await })
        .await
}
