//! `im send` and `im pull`: the command-line client, over Thrift.

use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use http_server::{options::RpcOptions, rpc_client::RpcClient};
use server_process::options::ConfigFile;
use tokio::time::sleep;
use volo_gen::rpc::{ImService, Message, PullRequest, PullResponse, SendRequest};

/// How often `--follow` asks for news.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The options of `im send`.
#[derive(Debug, clap::Args)]
pub struct SendOptions {
    /// The two members, "<member1>:<member2>"
    chat: String,
    /// The message
    text: String,
    /// Which of the members you are
    #[arg(long = "as", value_name = "SENDER")]
    sender: String,
    #[command(flatten)]
    rpc: RpcOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// The options of `im pull`.
#[derive(Debug, clap::Args)]
pub struct PullOptions {
    /// The two members, "<member1>:<member2>"
    chat: String,
    /// Messages in the page; 0 = 10
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: i32,
    /// Where to start: a send_time in microseconds, inclusive; 0 = the oldest, or the newest with --reverse
    #[arg(long, value_name = "US", default_value_t = 0)]
    cursor: i64,
    /// Newest first
    #[arg(long, conflicts_with = "follow")]
    reverse: bool,
    /// Show all there is, then what comes, until stopped
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    rpc: RpcOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// Sends one message.
pub async fn send(options: SendOptions) -> anyhow::Result<()> {
    let message = Message {
        chat: Some(options.chat.into()),
        text: Some(options.text.into()),
        sender: Some(options.sender.into()),
        send_time: Some(0),
    };
    let answer = RpcClient::new(options.rpc).send(SendRequest { message }).await?;
    if answer.code != 0 {
        bail!("{} ({})", answer.msg, answer.code);
    }
    Ok(())
}

/// Shows one page, or with `--follow` everything from the cursor on.
pub async fn pull(options: PullOptions) -> anyhow::Result<()> {
    let client = RpcClient::new(options.rpc);
    let mut request = PullRequest {
        chat: options.chat.into(),
        cursor: options.cursor,
        limit: options.limit,
        reverse: Some(options.reverse),
    };
    let shown = if options.follow { follow(&client, &mut request).await } else { page(&client, request).await };
    match shown {
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => Ok(()),
        shown => shown,
    }
}

async fn page(client: &RpcClient, request: PullRequest) -> anyhow::Result<()> {
    let page = client.pull(request).await?;
    if page.code != 0 {
        bail!("{} ({})", page.msg, page.code);
    }
    show(&page)?;
    if page.has_more == Some(true) {
        eprintln!("there are more: --cursor {}", page.next_cursor.unwrap_or_default());
    }
    Ok(())
}

/// Goes on from the last message shown, so none is repeated or missed whatever fails in between.
async fn follow(client: &RpcClient, request: &mut PullRequest) -> anyhow::Result<()> {
    loop {
        match client.pull(request.clone()).await {
            Ok(page) if page.code == 0 => {
                show(&page)?;
                if let Some(last) = page.messages.as_ref().and_then(|m| m.last()?.send_time) {
                    request.cursor = last.checked_add(1).context("the end of time")?;
                }
                if page.has_more == Some(true) {
                    continue;
                }
            }
            Ok(page) if page.code < 500 => bail!("{} ({})", page.msg, page.code),
            Ok(page) => eprintln!("{} ({})", page.msg, page.code),
            Err(e) => eprintln!("{e}"),
        }
        sleep(FOLLOW_INTERVAL).await;
    }
}

/// One message a line: "<when> <sender>: <text>".
fn show(page: &PullResponse) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for message in page.messages.iter().flatten() {
        let us = u64::try_from(message.send_time.unwrap_or_default()).unwrap_or_default();
        let when = humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + Duration::from_micros(us));
        let (sender, text) = (message.sender.as_deref(), message.text.as_deref());
        writeln!(out, "{when} {}: {}", printable(sender), printable(text))?;
    }
    out.flush()
}

/// Somebody else's text on one's own terminal: line ends and other control characters are shown, not obeyed.
fn printable(text: Option<&str>) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.unwrap_or_default().chars().map(shown).collect()
}
