//! The gate before every service: deny by default.
//!
//! It looks at the path and at the peer's certificate, and puts the caller's `Identity` into the
//! request. A service that stands in no row here cannot be called by anybody. Who is revoked does not
//! pass, and what he calls at that moment ends.

use std::{
    future::{Future, Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use orchestra_types::limits;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tower::Layer;

use super::{
    Identity,
    guard::{Watch, guard},
    known::{Holder, Known},
    refusal::Denied,
};
use crate::sparing::{Sparing, shown};

/// How much of a path is logged.
const PATH_BYTES_MAX: usize = 256;

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Everybody,
    Admins,
    Workers,
    AdminsAndWorkers,
}

/// Every service of the head.
const POLICIES: [(&str, Policy); 5] = [
    ("orchestra.v1.Join", Policy::Everybody),
    ("orchestra.v1.Renewal", Policy::AdminsAndWorkers),
    ("orchestra.v1.Admin", Policy::Admins),
    ("orchestra.v1.Fleet", Policy::Workers),
    ("orchestra.v1.Bulk", Policy::AdminsAndWorkers),
];

impl Policy {
    fn of(service: &str) -> Option<Self> {
        POLICIES
            .iter()
            .find_map(|(name, policy)| (*name == service).then_some(*policy))
    }

    fn admits(self, caller: &Identity) -> bool {
        match (self, caller) {
            (Self::Everybody, _)
            | (Self::Admins | Self::AdminsAndWorkers, Identity::Admin(_))
            | (Self::Workers | Self::AdminsAndWorkers, Identity::Worker(_)) => true,
            (Self::Admins, Identity::Worker(_) | Identity::Head)
            | (Self::Workers, Identity::Admin(_) | Identity::Head)
            | (Self::AdminsAndWorkers, Identity::Head) => false,
        }
    }
}

/// Puts a [`Gate`] before a server's services.
#[derive(Clone, Debug)]
pub struct GateLayer {
    known: Arc<Known>,
    refusals: Watch,
    refused: Sparing,
}

impl GateLayer {
    pub(super) fn new(cluster: &str, refusals: Watch, refused: Sparing) -> Self {
        Self {
            known: Arc::new(Known::new(cluster)),
            refusals,
            refused,
        }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            known: Arc::clone(&self.known),
            refusals: self.refusals.clone(),
            refused: self.refused.clone(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    inner: S,
    known: Arc<Known>,
    refusals: Watch,
    refused: Sparing,
}

impl<S> Gate<S> {
    fn admit<B>(&self, request: &http::Request<B>) -> Result<Option<Holder>, Denied> {
        let service = service_of(request.uri().path());
        let caller = self.identify(request);
        let policy = Policy::of(service);
        if policy == Some(Policy::Everybody) {
            return Ok(caller.ok());
        }
        let caller = caller?;
        if policy.is_some_and(|policy| policy.admits(&caller.identity)) {
            Ok(Some(caller))
        } else {
            Err(Denied::NotAllowed {
                caller: caller.identity,
                service: shown(service, limits::NAME_BYTES_MAX),
            })
        }
    }

    /// The chain was checked by TLS; only the name and the key in it are read here.
    fn identify<B>(&self, request: &http::Request<B>) -> Result<Holder, Denied> {
        let certificates = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs)
            .ok_or(Denied::NoCertificate)?;
        let leaf = certificates.first().ok_or(Denied::NoCertificate)?;
        let holder = self.known.holder(leaf).ok_or(Denied::UnknownIdentity)?;
        if self.refusals.borrow().refuse(&holder) {
            return Err(Denied::Revoked(holder.identity));
        }
        Ok(holder)
    }

    /// Anybody can be refused, as often as he likes.
    fn log_refused(&self, path: &str, from: Option<SocketAddr>, denied: &Denied) {
        if let Some(left_out) = self.refused.may() {
            let path = shown(path, PATH_BYTES_MAX);
            let from = from.map(tracing::field::display);
            tracing::warn!(%path, from, reason = %denied, left_out, "call refused");
        }
    }
}

/// How a call that passed ends.
type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

/// Who is at the other end of the connection.
fn from<B>(request: &http::Request<B>) -> Option<SocketAddr> {
    let connection = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()?;
    connection.get_ref().remote_addr()
}

/// `orchestra.v1.Admin` of `/orchestra.v1.Admin/GetStatus`.
fn service_of(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or(path, |(service, _)| service)
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Answer<S::Error>, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let from = from(&request);
        match self.admit(&request) {
            Ok(caller) => {
                // A peer cannot set extensions, but a layer before this one could have.
                request.extensions_mut().remove::<Identity>();
                let Some(caller) = caller else {
                    return Either::Left(Box::pin(self.inner.call(request)));
                };
                request.extensions_mut().insert(caller.identity.clone());
                let answer = self.inner.call(request);
                Either::Left(Box::pin(guard(answer, self.refusals.clone(), caller, from)))
            }
            Err(denied) => {
                self.log_refused(request.uri().path(), from, &denied);
                Either::Right(ready(Ok(Status::from(denied).into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_call_its_services_and_no_other() {
        let admin = Identity::admin("me");
        let worker = Identity::Worker("w1".parse().unwrap());
        let may = |service, caller| Policy::of(service).is_some_and(|p| p.admits(caller));
        let rows = [
            ("orchestra.v1.Admin", true, false),
            ("orchestra.v1.Fleet", false, true),
            ("orchestra.v1.Bulk", true, true),
            ("orchestra.v1.Renewal", true, true),
            ("orchestra.v1.Other", false, false),
            ("", false, false),
        ];
        for (service, by_admin, by_worker) in rows {
            assert_eq!(may(service, &admin), by_admin, "{service}");
            assert_eq!(may(service, &worker), by_worker, "{service}");
            assert!(!may(service, &Identity::Head), "{service}");
        }
    }

    #[test]
    fn a_path_names_its_service() {
        assert_eq!(
            service_of("/orchestra.v1.Admin/GetStatus"),
            "orchestra.v1.Admin"
        );
        assert_eq!(service_of("//orchestra.v1.Join/Enrol"), "");
        assert_eq!(service_of(""), "");
    }
}
