//! A small HTTP/1.1 client: one connection for each request, every wait bounded and named, every host's trust its own.
//!
//! It follows redirections and never takes credentials along to another host. What the bytes mean is not its affair.

mod connect;
mod url;

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use self::connect::{Network, Trust, basic};
pub(crate) use self::url::Url;
use crate::config::Timeouts;

/// Redirections for one request; registries use one or two.
const REDIRECTS_MAX: usize = 5;
/// As registries see us.
const AGENT: &str = concat!("ingot/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. It names the host, which is what an operator can do something about.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("{url:?} is not a usable address: {problem}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The name has no address.
    #[error("look up {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection.
    #[error("connect to {host}")]
    Connect {
        /// Registry or proxy.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No trust, or no common language.
    #[error("speak TLS with {host}")]
    Tls {
        /// Registry.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates we were told to trust are none.
    #[error("use the certificates for {host}")]
    Certificates {
        /// Registry.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy does not let us through.
    #[error("the proxy refuses to connect to {host}: {answer}")]
    Proxy {
        /// Registry.
        host: String,
        /// What it said, shortened.
        answer: String,
    },
    /// It took too long.
    #[error("waited {seconds} s for {what} of {host}")]
    Timeout {
        /// Registry.
        host: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// The conversation broke.
    #[error("talk to {host}")]
    Exchange {
        /// Registry.
        host: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// Sent from place to place.
    #[error("{host} redirects: {problem}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The answer is longer than an answer of this kind can be.
    #[error("the answer of {host} is longer than {max} bytes")]
    TooLong {
        /// Registry.
        host: String,
        /// Bound in bytes.
        max: u64,
    },
}

/// A request, without the parts every request has.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Sent to the host of `url` only.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            authorization: None,
            body: Bytes::new(),
        }
    }
}

/// The head of an answer, and its body to be read.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// A redirection led to another host; what it asks for is not the registry's wish.
    pub(crate) elsewhere: bool,
}

impl Response {
    /// A header as text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The body of an answer. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Body {
    host: String,
    incoming: Incoming,
    stall: Duration,
    connection: AbortHandle,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Body {
    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = within(self.stall, &self.host, "the next byte", self.incoming.frame());
            match frame.await? {
                None => return Ok(None),
                Some(Err(source)) => {
                    return Err(HttpError::Exchange { host: self.host.clone(), source });
                }
                // Trailers say nothing we need.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => {}
                },
            }
        }
    }

    /// All of it, if it is not longer than this.
    pub(crate) async fn bytes(mut self, max: u64) -> Result<Vec<u8>, HttpError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (all.len() + chunk.len()) as u64 > max {
                return Err(HttpError::TooLong { host: self.host.clone(), max });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

/// Client for one registry or mirror.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) network: Arc<Network>,
    pub(crate) trust: Trust,
    pub(crate) timeouts: Timeouts,
}

impl Client {
    /// Sends a request and follows redirections.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut response = self.once(request, &url).await?;
            let redirected = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirected || request.method != Method::GET {
                response.elsewhere = !url.same_origin(&request.url);
                return Ok(response);
            }
            let refuse = |problem| HttpError::Redirect { host: url.host.clone(), problem };
            let to = response.header(LOCATION).ok_or_else(|| refuse("it does not say where"))?;
            let next = url.join(to)?;
            if url.https && !next.https {
                return Err(refuse("from https to http"));
            }
            url = next;
        }
        Err(HttpError::Redirect { host: url.host, problem: "too many times" })
    }

    async fn once(&self, request: &Request, url: &Url) -> Result<Response, HttpError> {
        let own = url.same_origin(&request.url);
        let (stream, direct) = within(self.timeouts.connect, &url.host, "a connection", async {
            self.network.connect(url, &self.trust, own).await
        })
        .await??;
        let exchange = |source| HttpError::Exchange { host: url.host.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(exchange)?;
        // Ends with the body, at the latest.
        let connection = tokio::spawn(async move {
            // Its error is also the one of the request.
            let _ = connection.await;
        })
        .abort_handle();
        let guard = AbortOnDrop(Some(connection));
        let head = self.head(request, url, own, direct)?;
        let answer =
            within(self.timeouts.response, &url.host, "an answer", sender.send_request(head));
        let answer = answer.await?.map_err(exchange)?;
        let (parts, incoming) = answer.into_parts();
        let body = Body {
            host: url.host.clone(),
            incoming,
            stall: self.timeouts.stall,
            connection: guard.keep(),
        };
        Ok(Response { status: parts.status, headers: parts.headers, body, elsewhere: false })
    }

    fn head(
        &self,
        request: &Request,
        url: &Url,
        own: bool,
        direct: bool,
    ) -> Result<http::Request<Full<Bytes>>, HttpError> {
        // A proxy for plain http wants to know where to.
        let target = if direct { url.path.clone() } else { url.to_string() };
        let mut head = http::Request::builder()
            .method(request.method.clone())
            .uri(target)
            .header(HOST, url.authority())
            .header(USER_AGENT, AGENT);
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        if !direct && let Some(value) = self.network.proxy_authorization() {
            head = head.header(http::header::PROXY_AUTHORIZATION, value);
        }
        if own && let Some(value) = &request.authorization {
            head = head.header(AUTHORIZATION, value);
        }
        let bad = |_| HttpError::Url { url: url.host.clone(), problem: "it cannot be asked for" };
        head.body(Full::new(request.body.clone())).map_err(bad)
    }
}

/// Ends the task of a connection whose answer never came.
struct AbortOnDrop(Option<AbortHandle>);

impl AbortOnDrop {
    fn keep(mut self) -> AbortHandle {
        self.0.take().expect("taken only here, and this consumes it")
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

/// A wait with a deadline and a name.
async fn within<T>(
    deadline: Duration,
    host: &str,
    what: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, HttpError> {
    timeout(deadline, future).await.map_err(|_| HttpError::Timeout {
        host: host.to_owned(),
        what,
        seconds: deadline.as_secs(),
    })
}
