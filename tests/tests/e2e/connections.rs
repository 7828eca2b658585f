//! Connections that hold what they do not use: each is cut, its work is cancelled, and nothing of it is left.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use weir_tests::asking::{client, get, metrics_until, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::dialects::{Dialect, End};
use weir_tests::fault_upstream::{Ending, FaultUpstream};
use weir_tests::wait::{DEADLINE, until};

use crate::backend;

async fn connect(weir: &Weir) -> Result<TcpStream> {
    TcpStream::connect(weir.address()).await.context("connecting")
}

/// Everything until the gateway closes the connection; a reset counts as closed.
async fn rest(socket: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    let mut read = async || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = socket.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..length]);
        }
    };
    tokio::time::timeout(DEADLINE, read()).await.context("the gateway does not close")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn story(model: &str) -> String {
    with(question(model, "Tell me a story."), json!({"stream": true})).to_string()
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() -> Result<()> {
    let weir = Weir::start("[server]\nheader_timeout_ms = 300\n")?;
    for begin in ["", "P", "POST /v1/chat/comple", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut socket = connect(&weir).await?;
        socket.write_all(begin.as_bytes()).await?;
        assert_eq!(rest(&mut socket).await?, "", "{begin}");
    }
    let cut = [("listener", "public"), ("cause", "header_timeout")];
    metrics_until(&weir, "they were counted", |page| {
        // One is the connection that asks; on a busy machine it may have been cut itself before.
        page.sum("weir_connections_cut_total", &cut) >= 4.0 && page.sum("weir_connections", &[]) == 1.0
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_second_request_on_it_is_not() -> Result<()> {
    let weir = Weir::start("[server]\nheader_timeout_ms = 60000\nidle_timeout_ms = 300\n")?;
    let mut socket = connect(&weir).await?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let said = rest(&mut socket).await?;
    assert_eq!(said.matches("200 OK").count(), 2, "{said}");
    assert!(said.ends_with("ready\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn half_a_head_sent_ahead_is_not_waited_for_either() -> Result<()> {
    let weir = Weir::start("[server]\nheader_timeout_ms = 300\nidle_timeout_ms = 60000\n")?;
    let mut socket = connect(&weir).await?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /readyz HTTP/1.1\r\nhost").await?;
    let said = rest(&mut socket).await?;
    assert!(said.matches("HTTP/1.1").count() == 1 && said.ends_with("ok\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_is_long_and_nobody_reads_it() -> Result<()> {
    let tenant = format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{}\" }}]\n", crate::shared_limits::HASH);
    let weir = Weir::start(&tenant)?;
    let client = client()?;
    for (path, status) in [("/v1/chat/completions", 401), ("/v1/embeddings", 404), ("/v1/messages", 401)] {
        for _ in 0..3 {
            let sent = client.post(weir.url(path)).body(vec![b' '; 12 << 20]).send().await;
            assert_eq!(sent.context("the connection was cut under the answer")?.status(), status, "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_its_work_cancelled() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir =
        Weir::start(&format!("[server]\nwrite_timeout_ms = 200\n{}", backend("up", &upstream.base_url("endless"))))?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut socket = socket.connect(weir.address().parse()?).await?;
    let body = story("up");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    socket.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    assert_eq!(upstream.ended(0).await?.ending, Ending::ClosedByCaller);
    metrics_until(&weir, "nothing is left of it", |page| {
        page.sum("weir_in_flight", &[]) == 0.0
            && page.sum("weir_requests_total", &[("outcome", "cancelled")]) == 1.0
            && page.sum("weir_connections_cut_total", &[("cause", "write_timeout")]) == 1.0
            && page.sum("weir_connections", &[]) == 1.0
    })
    .await?;
    drop(socket);
    Ok(())
}

#[tokio::test]
async fn over_http2_only_the_unread_answer_is_given_up() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir =
        Weir::start(&format!("[server]\nwrite_timeout_ms = 200\n{}", backend("up", &upstream.base_url("endless"))))?;
    client()?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(16 * 1024)
        .build()?;
    let unread = client.post(weir.url("/v1/chat/completions")).body(story("up")).send().await?;
    ensure!(unread.version() == reqwest::Version::HTTP_2, "{:?}", unread.version());
    assert_eq!(upstream.ended(0).await?.ending, Ending::ClosedByCaller);
    metrics_until(&weir, "its work is cancelled", |page| {
        page.sum("weir_in_flight", &[]) == 0.0 && page.sum("weir_requests_total", &[("outcome", "cancelled")]) == 1.0
    })
    .await?;
    let beside = read(client.get(weir.url("/metrics")).send().await?).await?;
    assert_eq!(beside.status, 200);
    assert!(beside.text.contains("weir_connections{listener=\"public\"}"), "{}", beside.text);
    assert!(!beside.text.contains("cause=\"write_timeout\""), "the connection was left alone: {}", beside.text);
    let reply = read(unread).await?;
    assert!(reply.cut && !reply.text.contains("[DONE]"), "what was given up does not end as if it were whole");
    Ok(())
}

#[tokio::test]
async fn beyond_the_limit_connections_are_refused_with_a_word() -> Result<()> {
    let weir = Weir::start("[server]\nmax_connections = 1\n")?;
    let held = connect(&weir).await?;
    let refused = || async {
        let mut socket = connect(&weir).await.ok()?;
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
        Some(rest(&mut socket).await.ok()?).filter(|said| said.contains("503"))
    };
    let said = until("a connection is refused", refused).await?;
    assert!(said.contains("retry-after: 1") && said.contains("too many connections"), "{said}");
    drop(held);
    until("there is room again", || async { (get(&weir, "/healthz").await.ok()?.status == 200).then_some(()) }).await
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_connections() -> Result<()> {
    let weir = Weir::start("[server]\nshutdown_grace_ms = 50000\n")?;
    let mut used = connect(&weir).await?;
    used.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut piece = [0; 1024];
    ensure!(used.read(&mut piece).await? > 0);
    let unused = connect(&weir).await?;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build()?;
    assert_eq!(http2.get(weir.url("/healthz")).send().await?.status(), 200);
    let ended = tokio::task::spawn_blocking(move || weir.terminate_with_log()).await??;
    assert_eq!(ended.0, Some(0));
    assert!(!ended.1.contains("outlasted"), "{}", ended.1);
    drop((used, unused, http2));
    Ok(())
}

#[tokio::test]
async fn a_proxy_is_not_told_what_stays_on_this_machine() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let nobody = FaultUpstream::refused_url().await?;
    let proxies = [("http_proxy", nobody.as_str()), ("ALL_PROXY", nobody.as_str())];
    let here = upstream.base_url("fine").replace("127.0.0.1", "localhost");
    let weir = Weir::start_with(&(backend("up", &upstream.base_url("fine")) + &backend("here", &here)), &proxies)?;
    for model in ["up", "here"] {
        let reply = read(client()?.post(weir.url("/v1/chat/completions")).body(story(model)).send().await?).await?;
        assert_eq!(Dialect::Chat.streamed(&reply).end, End::Whole, "{model}: {}", reply.text);
    }
    Ok(())
}
