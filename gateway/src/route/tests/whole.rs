//! Answers that their callers get as a whole: until the end nothing was sent, so a cut one is another backend's to give.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_breaks_off_is_anothers_to_give() {
    let broken = EngineError::Upstream { status: 502, message: String::new(), retry_after: None };
    for (last, cause) in [(None, "stream_cut"), (Some(Line::Fail(broken)), "upstream")] {
        let lines: Vec<Line> = [started("m"), text("half")].into_iter().chain(last).collect();
        let steps =
            || vec![step("a", backend(lines.clone())), step("b", backend(vec![text("all"), Line::Wait(500), END]))];
        let (metrics, out) = go(steps(), request()).await.all().await;
        assert_eq!(out, format!("a:{cause} <b>all[stop]"), "whole, however long it takes after its first content");
        counted(&metrics, r#"weir_requests_total{backend="b",outcome="finished",route="auto"} 1"#);
        counted(&metrics, &format!(r#"weir_fallbacks_total{{cause="{cause}",from="a",to="b"}} 1"#));
        let (_, out) = go(steps(), streaming()).await.all().await;
        assert_eq!(out, format!("<m>half!{cause}"), "a caller who has seen the half is told");
    }
}
