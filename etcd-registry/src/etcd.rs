//! etcd's JSON gateway, as much of it as a registry needs.
//!
//! Source: etcd's documentation, "gRPC gateway": keys and values in base64, 64-bit numbers as strings, a watch is one
//! JSON object a line.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long a call may take before the next endpoint is asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest line of a watch, in bytes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// A client of an etcd cluster.
#[derive(Debug, Clone)]
pub struct Etcd {
    http: reqwest::Client,
    endpoints: Vec<String>,
}

/// etcd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No endpoint was given.
    #[error("no etcd endpoint is known")]
    NoEndpoint,
    /// The last endpoint that was asked could not be reached or refused.
    #[error("etcd at {0}: {1}")]
    Endpoint(String, reqwest::Error),
    /// What it answered is not understood.
    #[error("etcd answered what is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// The watch ended.
    #[error("etcd ended the watch: {0}")]
    WatchEnded(String),
}

/// A lease's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease(String);

/// Keys and values, and the revision they were read at.
#[derive(Debug)]
pub struct Listing {
    /// Decoded.
    pub entries: Vec<(String, Vec<u8>)>,
    /// The store's revision.
    pub revision: i64,
}

/// A change of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It has this value now.
    Put(String, Vec<u8>),
    /// It is gone.
    Deleted(String),
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watch {
    endpoint: String,
    response: reqwest::Response,
    line: Vec<u8>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

impl Etcd {
    /// A client of the cluster with these base addresses. Connects when it is asked.
    pub fn new(endpoints: &[String]) -> Self {
        Self { http: reqwest::Client::new(), endpoints: endpoints.to_vec() }
    }

    /// A lease that ends `ttl` after it was last kept alive.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        #[derive(Deserialize)]
        struct Granted {
            #[serde(rename = "ID")]
            id: String,
        }
        let granted: Granted = self.call("lease/grant", &json!({ "TTL": ttl.as_secs().to_string() })).await?;
        Ok(Lease(granted.id))
    }

    /// Keeps the lease alive; `false` when etcd does not know it any more.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn keep_alive(&self, lease: &Lease) -> Result<bool, EtcdError> {
        let kept: Value = self.call("lease/keepalive", &json!({ "ID": lease.0 })).await?;
        Ok(kept["result"]["TTL"].as_str().is_some_and(|ttl| ttl != "0"))
    }

    /// Ends the lease, and with it what was put under it.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn revoke(&self, lease: &Lease) -> Result<(), EtcdError> {
        self.call::<Value>("lease/revoke", &json!({ "ID": lease.0 })).await.map(drop)
    }

    /// Puts a value under a lease.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn put(&self, key: &str, value: &[u8], lease: &Lease) -> Result<(), EtcdError> {
        let put = json!({ "key": encode(key), "value": encode(value), "lease": lease.0 });
        self.call::<Value>("kv/put", &put).await.map(drop)
    }

    /// All keys that begin with `prefix`.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn list(&self, prefix: &str) -> Result<Listing, EtcdError> {
        #[derive(Deserialize)]
        struct Range {
            header: Header,
            #[serde(default)]
            kvs: Vec<KeyValue>,
        }
        let range = json!({ "key": encode(prefix), "range_end": encode(end_of(prefix)) });
        let range: Range = self.call("kv/range", &range).await?;
        let entries = range.kvs.iter().filter_map(|kv| Some((key(&kv.key)?, decode(&kv.value)?))).collect();
        Ok(Listing { entries, revision: range.header.revision.parse().unwrap_or(0) })
    }

    /// Watches all keys that begin with `prefix` for changes after `revision`.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn watch(&self, prefix: &str, revision: i64) -> Result<Watch, EtcdError> {
        let create = json!({ "create_request": {
            "key": encode(prefix), "range_end": encode(end_of(prefix)),
            "start_revision": (revision + 1).to_string(), "progress_notify": true,
        }});
        let (endpoint, response) = self.ask("watch", &create, None).await?;
        Ok(Watch { endpoint, response, line: Vec::new() })
    }

    async fn call<T: DeserializeOwned>(&self, what: &str, body: &Value) -> Result<T, EtcdError> {
        let (endpoint, response) = self.ask(what, body, Some(CALL_TIMEOUT)).await?;
        let bytes = response.bytes().await.map_err(|e| EtcdError::Endpoint(endpoint, e))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Asks one endpoint after the other until one answers well.
    async fn ask(
        &self,
        what: &str,
        body: &Value,
        timeout: Option<Duration>,
    ) -> Result<(String, reqwest::Response), EtcdError> {
        let mut last = EtcdError::NoEndpoint;
        for endpoint in &self.endpoints {
            let mut request = self.http.post(format!("{endpoint}/v3/{what}")).json(body);
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            // A watch's head comes at once, and only then does it wait.
            let sent = tokio::time::timeout(CALL_TIMEOUT, request.send()).await;
            match sent.map(|r| r.and_then(reqwest::Response::error_for_status)) {
                Ok(Ok(response)) => return Ok((endpoint.clone(), response)),
                Ok(Err(e)) => last = EtcdError::Endpoint(endpoint.clone(), e),
                Err(_) => last = EtcdError::WatchEnded(format!("{endpoint} does not answer")),
            }
        }
        Err(last)
    }
}

impl Watch {
    /// Waits for the next changes; none of them is left out. There may be none in an answer.
    ///
    /// # Errors
    /// The watch ended: list again.
    pub async fn next(&mut self) -> Result<Vec<Event>, EtcdError> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return events(&line);
            }
            let chunk = self.response.chunk().await.map_err(|e| EtcdError::Endpoint(self.endpoint.clone(), e))?;
            let Some(chunk) = chunk else { return Err(EtcdError::WatchEnded("the connection closed".into())) };
            if self.line.len() + chunk.len() > LINE_BYTES_MAX {
                return Err(EtcdError::WatchEnded("an answer is too long".into()));
            }
            self.line.extend_from_slice(&chunk);
        }
    }
}

fn events(line: &[u8]) -> Result<Vec<Event>, EtcdError> {
    #[derive(Deserialize)]
    struct Answer {
        result: Option<WatchResult>,
        error: Option<Value>,
    }
    #[derive(Deserialize)]
    struct WatchResult {
        #[serde(default)]
        canceled: bool,
        #[serde(default)]
        cancel_reason: String,
        #[serde(default)]
        events: Vec<WatchEvent>,
    }
    #[derive(Deserialize)]
    struct WatchEvent {
        #[serde(rename = "type", default)]
        kind: String,
        kv: KeyValue,
    }
    let answer: Answer = serde_json::from_slice(line)?;
    if let Some(error) = answer.error {
        return Err(EtcdError::WatchEnded(error.to_string()));
    }
    let Some(result) = answer.result else { return Ok(Vec::new()) };
    if result.canceled {
        return Err(EtcdError::WatchEnded(result.cancel_reason));
    }
    let event = |event: WatchEvent| {
        let key = key(&event.kv.key)?;
        if event.kind == "DELETE" { Some(Event::Deleted(key)) } else { Some(Event::Put(key, decode(&event.kv.value)?)) }
    };
    Ok(result.events.into_iter().filter_map(event).collect())
}

/// The first key behind all that begin with `prefix`, which ends with a slash.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

fn key(text: &str) -> Option<String> {
    String::from_utf8(decode(text)?).ok()
}
