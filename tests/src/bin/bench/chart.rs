//! A bar chart as SVG, with nothing but text and rectangles. Must never need a library to be looked at.

use std::fmt::Write;

/// One bar.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
}

/// Horizontal bars, the value at the end of each.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    const ROW: usize = 24;
    const LEFT: usize = 330;
    const WIDTH: usize = 420;
    let largest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let height = (bars.len() + 2) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"20\" \
         font-weight=\"bold\">{}</text>\n",
        LEFT + WIDTH + 80,
        escaped(title)
    );
    for (index, bar) in bars.iter().enumerate() {
        let (top, length) = ((index + 1) * ROW + 8, bar.value / largest * WIDTH as f64);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" \
             height=\"{}\" fill=\"#3b78b5\"/>\n<text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
            LEFT - 8,
            top + 13,
            escaped(&bar.name),
            ROW - 6,
            LEFT as f64 + length + 6.0,
            top + 13,
            bar.value
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
