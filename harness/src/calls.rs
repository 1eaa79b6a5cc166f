//! Send and Pull as tests say them, to the service itself or through an RPC client.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_registry::options::{Endpoints, RegistryOptions};
use http_server::{
    options::{RpcOptions, Target, Targets},
    rpc_client::RpcClient,
};
use tokio::task::JoinSet;
use volo_gen::rpc::{ImService, Message, PullRequest, PullResponse, SendRequest};

/// A client of the RPC server at `addr`, with the default second for a call.
pub fn client(addr: SocketAddr) -> RpcClient {
    let rpc_target = Targets(vec![Target { host_port: addr.to_string() }]);
    let registry = RegistryOptions { etcd: Endpoints::default(), service_name: "demo.rpc.server".to_owned() };
    RpcClient::new(RpcOptions { rpc_target, rpc_timeout: Duration::from_secs(1), registry })
}

/// Sends; returns the answer's Code and Msg.
pub async fn send(service: &impl ImService, chat: &str, text: &str, sender: &str) -> (i32, String) {
    let [chat, text, sender] = [chat, text, sender].map(|s| Some(s.to_owned().into()));
    let answer = service.send(SendRequest { message: Message { chat, text, sender, send_time: Some(0) } }).await;
    let answer = answer.expect("an answer, not an exception");
    (answer.code, answer.msg.to_string())
}

/// Pulls one page.
pub async fn pull(service: &impl ImService, chat: &str, cursor: i64, limit: i32, reverse: bool) -> PullResponse {
    let request = PullRequest { chat: chat.to_owned().into(), cursor, limit, reverse: Some(reverse) };
    service.pull(request).await.expect("an answer, not an exception")
}

/// Pulls a whole chat, oldest first, page by page: each message's time and text.
pub async fn pull_all(service: &impl ImService, chat: &str) -> Vec<(i64, String)> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let page = pull(service, chat, cursor, 500, false).await;
        assert_eq!(page.code, 0, "{}", page.msg);
        all.extend(texts(&page));
        if page.has_more != Some(true) {
            return all;
        }
        cursor = page.next_cursor.expect("set with HasMore");
    }
}

/// The time and text of each message in a page.
pub fn texts(page: &PullResponse) -> Vec<(i64, String)> {
    let messages = page.messages.iter().flatten();
    messages.map(|m| (m.send_time.unwrap_or(0), m.text.clone().unwrap_or_default().to_string())).collect()
}

/// Follows a chat as a reader does, from the last message seen, until `stop` says so and nothing is left.
async fn follow(client: RpcClient, chat: &str, stop: Arc<AtomicBool>) -> Vec<(i64, String)> {
    let (mut seen, mut cursor) = (Vec::new(), 0);
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let page = pull(&client, chat, cursor, 50, false).await;
        assert_eq!(page.code, 0, "{}", page.msg);
        let news = texts(&page);
        if news.is_empty() {
            if stopping {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cursor = news.last().map_or(cursor, |(time, _)| time + 1);
        seen.extend(news);
    }
}

/// 20 writers send 200 messages each to one chat while 4 readers follow it, spread over these servers. Panics unless
/// every send is acknowledged and every follower sees every message once, in one order that all share and that is
/// each writer's own. Returns that order.
pub async fn write_and_follow(clients: &[RpcClient]) -> Vec<(i64, String)> {
    const WRITERS: usize = 20;
    const EACH: usize = 200;
    let stop = Arc::new(AtomicBool::new(false));
    let mut followers = JoinSet::new();
    for i in 0..4 {
        followers.spawn(follow(clients[i % clients.len()].clone(), "a:b", stop.clone()));
    }
    let mut writers = JoinSet::new();
    for w in 0..WRITERS {
        let client = clients[w % clients.len()].clone();
        writers.spawn(async move {
            for i in 0..EACH {
                assert_eq!(send(&client, "a:b", &format!("{w}/{i}"), "a").await, (0, "success".into()));
            }
        });
    }
    writers.join_all().await;
    stop.store(true, Ordering::Release);
    let mut orders = followers.join_all().await;
    let order = orders.pop().expect("four");
    assert_eq!(order.len(), WRITERS * EACH, "every message once");
    assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0), "send_time strictly increases");
    assert!(orders.iter().all(|other| *other == order), "one order for all");
    for w in 0..WRITERS {
        let own = order.iter().filter_map(|(_, text)| text.strip_prefix(&format!("{w}/"))?.parse::<usize>().ok());
        assert!(own.eq(0..EACH), "each writer's messages in its own order");
    }
    order
}

/// Panics unless everything acknowledged is in the chat, in order, and nothing is there twice. Texts are unique.
pub async fn assert_stored_once(client: &RpcClient, chat: &str, acknowledged: &[String]) {
    let stored = pull_all(client, chat).await;
    assert!(stored.windows(2).all(|pair| pair[0].0 < pair[1].0), "send_time strictly increases");
    let mut counts = HashMap::new();
    for (_, text) in &stored {
        *counts.entry(text).or_insert(0) += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|text| !counts.contains_key(text)).collect();
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "lost {lost:?}, doubled {doubled:?}");
}
