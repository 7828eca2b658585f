//! HTTPS: a real handshake, HTTP/2 where the client knows it, and a certificate that is replaced while running.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use reqwest::Version;
use serde_json::json;
use weir_tests::asking::{client, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::certificate::Certificate;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::metrics_page::MetricsPage;
use weir_tests::wait::until;

const CONFIG: &str = "[engine.diffusion]\nenabled = false\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";

fn start(certificate: &Certificate) -> Result<Weir> {
    start_with(certificate, "")
}

fn start_with(certificate: &Certificate, more: &str) -> Result<Weir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("cert.pem"), &certificate.cert)?;
    std::fs::write(folder.path().join("key.pem"), &certificate.key)?;
    Weir::start_in(folder, &format!("{CONFIG}{more}"), &[])
}

/// A client that trusts this certificate and no other.
fn trusting(certificate: &Certificate, http1_only: bool) -> Result<reqwest::Client> {
    // Chooses the provider.
    client()?;
    let root = reqwest::Certificate::from_pem(certificate.cert.as_bytes())?;
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    let builder = if http1_only { builder.http1_only() } else { builder };
    builder.build().context("the HTTPS client")
}

#[tokio::test]
async fn both_versions_are_spoken_over_tls_and_plain_http_is_not() -> Result<()> {
    let certificate = Certificate::new()?;
    let weir = start(&certificate)?;
    assert!(weir.url("").starts_with("https://"), "{}", weir.url(""));
    for (http1_only, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
        let response = trusting(&certificate, http1_only)?.get(weir.url("/healthz")).send().await?;
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
    }
    let stranger = trusting(&Certificate::new()?, false)?;
    assert!(stranger.get(weir.url("/healthz")).send().await.is_err(), "trusted by nobody else");
    assert!(client()?.get(format!("http://{}/healthz", weir.address())).send().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload() -> Result<()> {
    let (old, new) = (Certificate::new()?, Certificate::new()?);
    let weir = start(&old)?;
    let held = trusting(&old, true)?;
    assert_eq!(held.get(weir.url("/healthz")).send().await?.status(), 200);
    // One file is there before the other: that is not a pair, and the old one stays.
    weir.put("cert.pem", &new.cert)?;
    weir.hangup()?;
    weir.said("not the certificate's key").await?;
    weir.put("key.pem", &new.key)?;
    weir.hangup()?;
    let shown = || async { trusting(&new, false).ok()?.get(weir.url("/healthz")).send().await.ok() };
    assert_eq!(until("the new one is shown", shown).await?.status(), 200);
    assert!(trusting(&old, true)?.get(weir.url("/healthz")).send().await.is_err());
    let reply = read(held.get(weir.url("/metrics")).send().await?).await?;
    assert_eq!(reply.status, 200, "connections that were open stay");
    let page = MetricsPage::read(&reply.text);
    assert!(page.sum("weir_config_reloads_total", &[("outcome", "applied")]) >= 1.0);
    Ok(())
}

/// A backend whose answers take their time.
fn backend(base_url: &str) -> String {
    format!("[[backend]]\nname = \"up\"\nbase_url = \"{base_url}\"\nmodel = \"up-model\"\n")
}

#[tokio::test]
async fn an_upstream_over_tls_has_a_connection_for_each_answer() -> Result<()> {
    const ANSWERS: usize = 12;
    let (certificate, folder) = (Certificate::new()?, tempfile::tempdir()?);
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, &certificate.cert)?;
    let behind = FaultUpstream::start().await?;
    let upstream = start_with(&certificate, &backend(&behind.base_url("hang")))?;
    let roots = roots.to_str().context("a path")?;
    let weir = Weir::start_with(&backend(&upstream.url("/v1")), &[("SSL_CERT_FILE", roots)])?;
    let body = with(question("up", "Tell me a story."), json!({"stream": true})).to_string();
    let client = client()?;
    let ask = || async {
        let mut answer = client.post(weir.url("/v1/chat/completions")).body(body.clone()).send().await?;
        let begun = answer.chunk().await?;
        anyhow::Ok((answer, begun))
    };
    let answers = try_join_all((0..ANSWERS).map(|_| ask())).await?;
    assert!(answers.iter().all(|(answer, begun)| answer.status() == 200 && begun.is_some()));
    let page = read(trusting(&certificate, true)?.get(upstream.url("/metrics")).send().await?).await?;
    let open = MetricsPage::read(&page.text).sum("weir_connections", &[("listener", "public")]);
    assert!(open >= ANSWERS as f64, "{open} connections for {ANSWERS} answers");
    Ok(())
}
