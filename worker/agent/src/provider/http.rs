//! The HTTP side of a model call.

use std::time::Duration;

use reqwest::{
    ClientBuilder, Response,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde_json::Value;

use super::{
    problem::{self, Problem},
    sse::Events,
};
use crate::{
    args::{Provider, Settings},
    failure::{Code, Failure},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to a model service.
pub struct Http {
    client: reqwest::Client,
    base: String,
    headers: HeaderMap,
    key_env: String,
}

impl Http {
    /// A client for the service of the settings.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let base = base(settings.provider, &settings.base_url);
        let client = builder(&base, settings.model_timeout)
            .build()
            .map_err(|error| {
                let message = format!(
                    "failed to set up the connection to {base}: {}",
                    chain(&error)
                );
                Failure::new(Code::Internal, message)
            })?;
        Ok(Self {
            client,
            base,
            headers: headers(settings)?,
            key_env: settings.api_key_env.clone(),
        })
    }

    /// Posts a request; the events of the answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Events, Problem> {
        let url = format!("{}/{path}", self.base);
        let request = self
            .client
            .post(&url)
            .headers(self.headers.clone())
            .json(body);
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        if response.status().is_success() {
            return Ok(Events::new(response));
        }
        Err(self.refused(response).await)
    }

    fn unsent(&self, error: &reqwest::Error) -> Problem {
        let message = format!(
            "failed to reach the model service at {}: {}",
            self.base,
            chain(error)
        );
        if error.is_builder() {
            return Problem::lasting(Code::BadRequest, message);
        }
        Problem::passing(message)
    }

    async fn refused(&self, response: Response) -> Problem {
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = response.text().await.unwrap_or_default();
        let mut problem = Problem::of_status(status, after, &problem::words(&body));
        if problem.failure.code == Code::Auth {
            problem
                .failure
                .message
                .push_str(&format!("; the key is read from {}", self.key_env));
        }
        problem
    }
}

/// Plain `http` needs no certificates, so none are looked for: a machine without a certificate
/// store can use a local model. Nor is a proxy, which would not reach this machine's own loopback.
fn builder(base: &str, silence: Duration) -> ClientBuilder {
    // An error means that the process has a provider already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(silence)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("orchestra-agent/", env!("CARGO_PKG_VERSION")));
    if base.starts_with("http://") {
        builder.tls_certs_only([]).no_proxy()
    } else {
        builder
    }
}

/// The address before the path: Anthropic's is often named without its version.
fn base(provider: Provider, url: &str) -> String {
    let url = url.trim_end_matches('/');
    match provider {
        Provider::Anthropic if !url.ends_with("/v1") => format!("{url}/v1"),
        Provider::Anthropic | Provider::Openai => url.to_owned(),
    }
}

fn headers(settings: &Settings) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if settings.provider == Provider::Anthropic {
        let version = HeaderValue::from_static("2023-06-01");
        headers.insert(HeaderName::from_static("anthropic-version"), version);
    }
    let Some(key) = &settings.api_key else {
        return Ok(headers);
    };
    let (name, value) = match settings.provider {
        Provider::Anthropic => ("x-api-key", key.clone()),
        Provider::Openai => ("authorization", format!("Bearer {key}")),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        let message = format!(
            "the key in {} has characters that no key has",
            settings.api_key_env
        );
        Failure::new(Code::Auth, message)
    })?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(headers)
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// An error with what caused it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
