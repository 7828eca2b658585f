//! The result of a replay as one HTML page with its plots drawn in it: nothing is loaded from anywhere. Must never hold
//! anything of a prompt.

use std::fmt::Write;

use weir_router_policies::replay::Replayed;

use super::replay::{money, shown};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 48.0;
/// Points of a curve; more cannot be seen.
const POINTS: usize = 200;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
    td:first-child{text-align:right}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#444}\
    .before{stroke:#888}.after{stroke:#0a6}.stay{fill:#bbb}.move{fill:#0a6}";

/// The page.
pub(super) fn html(replayed: &Replayed, log: &str) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Replay: {title}</title><style>{STYLE}</style>\
         <h1>{log} under {title}</h1><p>{} requests decided again, {} move; {} named their model, {} lines without a \
         decision. Of a request that moves, with 95&nbsp;% intervals: first content {}, end {}, money {}.</p>",
        replayed.requests,
        replayed.moved,
        replayed.pinned,
        replayed.unread,
        shown(replayed.overall.ttft_ms),
        shown(replayed.overall.total_ms),
        money(replayed.overall.money),
        title = escaped(&replayed.policy),
        log = escaped(log),
    );
    if replayed.without_estimate > 0 {
        let _ = write!(
            page,
            "<p>{} moved requests go where this log has measured nothing; they are in no figure.</p>",
            replayed.without_estimate
        );
    }
    page.push_str("<h2>What goes where</h2>");
    flows(&mut page, replayed);
    page.push_str(
        "<h2>Time to the first content</h2><p>Share of the requests that have it within so many milliseconds: \
                   as recorded (grey), and as expected (green).</p>",
    );
    curves(&mut page, replayed);
    page.push_str("<h2>Table</h2>");
    table(&mut page, replayed);
    page.push_str("</html>\n");
    page
}

/// A bar for each of the larger flows.
fn flows(page: &mut String, replayed: &Replayed) {
    let largest = replayed.flows.iter().map(|flow| flow.requests).max().unwrap_or(1).max(1) as f64;
    let shown = replayed.flows.len().min(20);
    let height = 24.0 * shown as f64 + 8.0;
    let _ = write!(page, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (row, flow) in replayed.flows.iter().take(shown).enumerate() {
        let y = 24.0 * row as f64 + 4.0;
        let length = (flow.requests as f64 / largest) * (WIDTH - 440.0);
        let kind = if flow.change.is_some() { "move" } else { "stay" };
        let (from, to) = (format!("{} → {}", flow.from.0, flow.from.1), format!("{} → {}", flow.to.0, flow.to.1));
        let _ = write!(
            page,
            "<text x=\"0\" y=\"{:.1}\">{} ⇒ {}</text><rect class=\"{kind}\" x=\"380\" y=\"{y:.1}\" width=\"{length:.1}\" \
             height=\"16\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 13.0,
            escaped(&from),
            escaped(&to),
            385.0 + length,
            y + 13.0,
            flow.requests
        );
    }
    page.push_str("</svg>");
}

/// Two distributions as curves over a logarithmic axis.
fn curves(page: &mut String, replayed: &Replayed) {
    let all = || replayed.ttft_before.iter().chain(&replayed.ttft_after).copied().filter(|ms| *ms > 0.0);
    let (Some(least), Some(most)) = (all().reduce(f64::min), all().reduce(f64::max)) else {
        page.push_str("<p>Nothing was measured.</p>");
        return;
    };
    let (from, to) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let x = |ms: f64| MARGIN + (ms.max(least).log10() - from) / (to - from) * (WIDTH - 2.0 * MARGIN);
    let y = |share: f64| HEIGHT - MARGIN + share * (2.0 * MARGIN - HEIGHT);
    let _ = write!(page, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for share in [0.0, 0.5, 0.9, 1.0] {
        let _ = write!(
            page,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#eee\"/><text x=\"4\" y=\"{:.1}\">{:.0} %</text>",
            WIDTH - MARGIN,
            y(share) + 4.0,
            share * 100.0,
            at = y(share),
        );
    }
    let mut power = from;
    while power <= to {
        let ms = 10_f64.powf(power);
        let _ = write!(page, "<text x=\"{:.1}\" y=\"{:.1}\">{ms} ms</text>", x(ms) - 12.0, HEIGHT - 16.0);
        power += 1.0;
    }
    for (class, values) in [("before", &replayed.ttft_before), ("after", &replayed.ttft_after)] {
        let points: Vec<String> = (0..=POINTS)
            .filter_map(|at| {
                let share = at as f64 / POINTS as f64;
                let index = (share * values.len().saturating_sub(1) as f64).round() as usize;
                values.get(index).map(|ms| format!("{:.1},{:.1}", x(*ms), y(share)))
            })
            .collect();
        let _ = write!(
            page,
            "<polyline class=\"{class}\" fill=\"none\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
    }
    page.push_str("</svg>");
}

fn table(page: &mut String, replayed: &Replayed) {
    page.push_str("<table><tr><th>requests<th>from<th>to<th>first content<th>end<th>money a request</tr>");
    for flow in &replayed.flows {
        let (ttft, total, cost) = match &flow.change {
            None => ("stays".to_owned(), String::new(), String::new()),
            Some(change) => (shown(change.ttft_ms), shown(change.total_ms), money(change.money)),
        };
        let _ = write!(
            page,
            "<tr><td>{}<td>{} → {}<td>{} → {}<td>{ttft}<td>{total}<td>{cost}</tr>",
            flow.requests,
            escaped(&flow.from.0),
            escaped(&flow.from.1),
            escaped(&flow.to.0),
            escaped(&flow.to.1),
        );
    }
    page.push_str("</table>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
