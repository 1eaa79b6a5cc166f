//! One Redis connection that all calls share, replaced by itself when it breaks.
//!
//! The library pipelines the calls. Its own `ConnectionManager` is not used because a connection that was refused for
//! anything but an IO error (a Redis that is still loading, a password that is being changed) stays refused for ever,
//! and because calls would wait for attempts: here a call fails at once while Redis is away.

use std::{io, sync::Arc, time::Duration};

use futures::FutureExt;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tracing::{info, warn};

/// How long a connection attempt may take. A Redis further away could not serve a call in time anyway.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The pauses between attempts grow from the first to the second; a Redis that is back is found within the latter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));

/// Commands that may wait in the connection's channel before callers wait for a place in it.
const PIPELINE_BUFFER: usize = 1_024;

/// A handle; clones share the connection. It connects as long as a handle is left.
#[derive(Clone)]
pub struct Connection {
    current: watch::Receiver<Option<MultiplexedConnection>>,
    broken: Arc<Notify>,
    database: i64,
}

impl Connection {
    /// Starts connecting, in a task of its own.
    pub fn open(client: Client) -> Self {
        let database = client.get_connection_info().redis_settings().db();
        let (set, current) = watch::channel(None);
        let broken = Arc::new(Notify::new());
        tokio::spawn(keep_connected(client, set, broken.clone()));
        Self { current, broken, database }
    }

    /// Has the connection replaced: it does not answer.
    pub fn replace(&self) {
        self.broken.notify_one();
    }

    fn get(&self) -> Result<MultiplexedConnection, RedisError> {
        let away = || io::Error::new(io::ErrorKind::ConnectionRefused, "Redis is away, trying to reach it");
        self.current.borrow().clone().ok_or_else(|| away().into())
    }

    fn watch_for_breaks<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if result.as_ref().is_err_and(|e| e.is_unrecoverable_error()) {
            self.replace();
        }
        result
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move { self.watch_for_breaks(self.get()?.send_packed_command(cmd).await) }.boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move { self.watch_for_breaks(self.get()?.send_packed_commands(cmd, offset, count).await) }.boxed()
    }

    fn get_db(&self) -> i64 {
        self.database
    }
}

async fn keep_connected(client: Client, set: watch::Sender<Option<MultiplexedConnection>>, broken: Arc<Notify>) {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None) // the service has one deadline for a whole call
        .set_pipeline_buffer_size(PIPELINE_BUFFER);
    let mut pause = PAUSES.0;
    let mut away = false;
    while !set.is_closed() {
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                if std::mem::take(&mut away) {
                    info!("Redis is back");
                }
                pause = PAUSES.0;
                set.send_replace(Some(connection));
                tokio::select! {
                    () = broken.notified() => {}
                    () = set.closed() => return,
                }
                set.send_replace(None);
            }
            Err(e) => {
                if !std::mem::replace(&mut away, true) {
                    warn!(error = %e, "Redis is away: sends and pulls fail until it is back");
                }
                sleep(pause.mul_f64(jitter())).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// 0.5 to 1, so that many replicas do not come back to Redis at the same moment.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) >> 11; // 53 bits, what an f64 holds exactly
    0.5 + random as f64 / (1u64 << 54) as f64
}
