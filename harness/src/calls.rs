//! Send and Pull as tests say them, to the service itself or through an RPC client.

use std::{net::SocketAddr, time::Duration};

use http_server::{
    options::{RpcOptions, Target},
    rpc_client::RpcClient,
};
use volo_gen::rpc::{ImService, Message, PullRequest, PullResponse, SendRequest};

/// A client of the RPC server at `addr`, with the default second for a call.
pub fn client(addr: SocketAddr) -> RpcClient {
    let rpc_target = vec![Target { host_port: addr.to_string() }];
    RpcClient::new(RpcOptions { rpc_target, rpc_timeout: Duration::from_secs(1) })
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

/// Follows a chat as a reader does, from the last message seen, until `stop` says so and nothing is left. A call that
/// fails is made again.
pub async fn follow(service: &impl ImService, chat: &str, stop: impl Fn() -> bool) -> Vec<(i64, String)> {
    let (mut seen, mut cursor) = (Vec::new(), 0);
    loop {
        let stopping = stop();
        let page = pull(service, chat, cursor, 50, false).await;
        let news = texts(&page);
        if news.is_empty() {
            if stopping && page.code == 0 {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cursor = news.last().map_or(cursor, |(time, _)| time + 1);
        seen.extend(news);
    }
}
