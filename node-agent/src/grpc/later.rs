//! A service that its first request makes: what takes time to make and is seldom asked must not hold up the start. It
//! knows nothing of what the service does.

use crate::report;
use futures::future::Either;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// The service that `make` gives. Clones share it.
#[derive(Clone)]
pub(crate) struct Later<S> {
    make: fn() -> anyhow::Result<S>,
    /// `None` inside when it could not be made.
    made: Arc<OnceLock<Option<S>>>,
}

impl<S> Later<S> {
    pub(crate) fn new(make: fn() -> anyhow::Result<S>) -> Self {
        Self { make, made: Arc::default() }
    }
}

impl<S: NamedService> NamedService for Later<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Later<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<S::Response, Infallible>>>;

    /// Services of gRPC are always ready, and this one may not be there yet.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let made = self.made.get_or_init(|| {
            (self.make)()
                .inspect_err(|error| tracing::error!("{}", report::chain(error.as_ref())))
                .ok()
        });
        match made {
            Some(service) => Either::Left(service.clone().call(request)),
            None => Either::Right(ready(Ok(Status::internal(
                "this service could not be made; the log of the node says why",
            )
            .into_http()))),
        }
    }
}
