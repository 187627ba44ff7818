//! Bar charts as SVG: no more than rectangles and words.

use std::fmt::Write as _;

/// A chart: bars below each other, all to one scale.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// A bar.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// What is written behind it.
    pub(crate) text: String,
    /// A colour of its own, for what the chart is about.
    pub(crate) ours: bool,
}

const LEFT: f64 = 330.0;
const LENGTH: f64 = 420.0;
const LINE: f64 = 18.0;
const WIDTH: f64 = LEFT + LENGTH + 110.0;

/// All charts below each other, as one file.
pub(crate) fn svg(charts: &[Chart]) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for chart in charts {
        top = draw(chart, top, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws one and gives where the next begins.
fn draw(chart: &Chart, top: f64, to: &mut String) -> f64 {
    let most = chart
        .bars
        .iter()
        .map(|bar| bar.value)
        .filter(|value| value.is_finite())
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut y = top + LINE;
    let _ = writeln!(to, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>", escape(&chart.title));
    for bar in &chart.bars {
        y += LINE;
        let (base, end) = (LEFT - 8.0, LEFT + LENGTH * (bar.value / most).clamp(0.0, 1.0));
        let (edge, height, width) = (y - LINE + 6.0, LINE - 4.0, end - LEFT);
        let colour = if bar.ours { "#2563a8" } else { "#a9b4c0" };
        let (label, text) = (escape(&bar.label), escape(&bar.text));
        let _ = writeln!(
            to,
            "<text x=\"{base}\" y=\"{y}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LEFT}\" y=\"{edge}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y}\">{text}</text>",
            end + 6.0
        );
    }
    y + LINE
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
