//! A picture of cost against number of rules: hits on the left, misses on the right, both axes
//! logarithmic. Plain SVG, drawn by hand: two dozen lines and a legend need no library.

use std::fmt::Write as _;

use super::{
    super::Exit,
    contestants::Contestants,
    hosts::{Class, Hosts},
    measure::{DECIDE, Progress, Timing, measure},
    rules::Rules,
};
use crate::policy::{List, Policy};

/// What was measured with that many of the rules.
pub(super) struct Step {
    rules: usize,
    timings: Vec<Timing>,
}

/// A panel of the picture.
struct Panel<'a> {
    title: &'a str,
    /// The place of its class in [`Class::ALL`].
    class: usize,
    left: f64,
}

/// The ranges of both axes, as powers of ten.
#[derive(Clone, Copy)]
struct Axes {
    rules: (f64, f64),
    ns: (f64, f64),
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 300.0;
const TOP: f64 = 70.0;

/// Colours that people with any colour vision can tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#000000"];

/// Measures parts of the rules: 10, 100, 1000 of them and so on, evenly taken, then all.
pub(super) fn steps(
    policy: &Policy,
    seconds: f64,
    progress: &mut Progress,
) -> Result<Vec<Step>, Exit> {
    let rules = policy.ruleset().rules();
    let all = rules.count(List::Allow) + rules.count(List::Deny);
    let powers = std::iter::successors(Some(10_usize), |size| size.checked_mul(10));
    let sizes: Vec<usize> = powers.take_while(|size| *size < all).chain([all]).collect();
    let share = seconds / f64::from(u32::try_from(sizes.len()).unwrap_or(1));
    let mut steps = Vec::new();
    for size in sizes {
        let every = (all / size.max(1)).max(1);
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (_, rule) in rules.iter().step_by(every).take(size) {
            match rule.list {
                List::Allow => allow.push(rule.pattern.to_string()),
                List::Deny => deny.push(rule.pattern.to_string()),
            }
        }
        let (part, _) = Rules::of_patterns(&allow, &deny).compile(progress)?;
        let contestants = Contestants::of(&part, progress);
        let hosts = Hosts::made_up(&part);
        let timings = measure(&part, &contestants, &hosts, share, progress);
        steps.push(Step { rules: size, timings });
    }
    Ok(steps)
}

/// The picture.
pub(super) fn draw(steps: &[Step], title: &str) -> String {
    let place = |class| Class::ALL.iter().position(|known| *known == class).unwrap_or(0);
    let panels = [
        Panel { title: "hit: a rule speaks about the host", class: place(Class::Hit), left: 80.0 },
        Panel {
            title: "miss: a host of nobody",
            class: place(Class::Miss),
            left: 80.0 + WIDTH + 60.0,
        },
    ];
    let axes = Axes::of(steps);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 490\" width=\"920\" \
         height=\"490\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"920\" height=\"490\" fill=\"white\"/>\n",
    );
    text(&mut svg, 80.0, 28.0, "start", 16, &format!("One decision, {title}"));
    svg.push_str(
        "<text transform=\"translate(24 220) rotate(-90)\" text-anchor=\"middle\">ns, \
         median</text>\n",
    );
    for panel in &panels {
        panel.frame(&mut svg, axes);
        for (name, colour) in names(steps).zip(COLOURS) {
            panel.curve(&mut svg, axes, steps, name, colour);
        }
    }
    for (number, (name, colour)) in names(steps).zip(COLOURS).enumerate() {
        let place = |number| f64::from(u32::try_from(number).unwrap_or(0));
        let (left, y) = (80.0 + place(number % 4) * 200.0, 440.0 + place(number / 4) * 22.0);
        svg.push_str(&format!(
            "<line x1=\"{left}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" \
             stroke-width=\"3\"/>\n",
            left + 20.0
        ));
        text(&mut svg, left + 26.0, y + 4.0, "start", 12, name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn names(steps: &[Step]) -> impl Iterator<Item = &'static str> {
    steps.first().into_iter().flat_map(|step| step.timings.iter().map(|timing| timing.name))
}

impl Step {
    fn median(&self, name: &str, class: usize) -> Option<f64> {
        let timing = self.timings.iter().find(|timing| timing.name == name)?;
        Some(timing.classes.as_ref().ok()?.get(class).copied()??.median.max(1.0))
    }

    fn rules(&self) -> f64 {
        f64::from(u32::try_from(self.rules).unwrap_or(u32::MAX)).max(1.0)
    }
}

impl Axes {
    fn of(steps: &[Step]) -> Self {
        let all = steps.iter().flat_map(|step| {
            step.timings
                .iter()
                .flat_map(|timing| (0..4).filter_map(|class| step.median(timing.name, class)))
        });
        let most = all.fold(1_000.0, f64::max);
        let rules = steps.iter().map(Step::rules).fold(10.0, f64::max);
        let least = steps.iter().map(Step::rules).fold(10.0, f64::min);
        Self {
            rules: (least.log10(), rules.log10().max(least.log10() + 1.0)),
            ns: (0.0, most.log10().ceil()),
        }
    }

    fn x(self, rules: f64) -> f64 {
        (rules.log10() - self.rules.0) / (self.rules.1 - self.rules.0) * WIDTH
    }

    fn y(self, ns: f64) -> f64 {
        TOP + HEIGHT - (ns.log10() - self.ns.0) / (self.ns.1 - self.ns.0) * HEIGHT
    }
}

impl Panel<'_> {
    /// Title, box, and a line with its number at each power of ten.
    fn frame(&self, svg: &mut String, axes: Axes) {
        let (left, bottom) = (self.left, TOP + HEIGHT);
        text(svg, left + WIDTH / 2.0, TOP - 14.0, "middle", 13, self.title);
        text(svg, left + WIDTH / 2.0, bottom + 40.0, "middle", 12, "rules");
        for power in 0..=12 {
            let value = 10_f64.powi(power);
            let exponent = f64::from(power);
            if (axes.ns.0..=axes.ns.1).contains(&exponent) {
                let y = axes.y(value);
                grid(svg, (left, y), (left + WIDTH, y));
                text(svg, left - 8.0, y + 4.0, "end", 11, &short(value));
            }
            // A hair's breadth more: 999,990 rules reach the line of a million.
            if (axes.rules.0..=axes.rules.1 + 0.01).contains(&exponent) {
                let x = left + axes.x(value);
                grid(svg, (x, TOP), (x, bottom));
                text(svg, x, bottom + 18.0, "middle", 11, &short(value));
            }
        }
        svg.push_str(&format!(
            "<rect x=\"{left}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" \
             stroke=\"#444\"/>\n"
        ));
    }

    fn curve(&self, svg: &mut String, axes: Axes, steps: &[Step], name: &str, colour: &str) {
        let points: Vec<(f64, f64)> = steps
            .iter()
            .filter_map(|step| Some((step.rules(), step.median(name, self.class)?)))
            .map(|(rules, ns)| (self.left + axes.x(rules), axes.y(ns)))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let width = if name == DECIDE { 3.0 } else { 1.8 };
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n",
            path.join(" ")
        ));
        for (x, y) in points {
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>").ok();
        }
    }
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    svg.push_str(&format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>\n"
    ));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    svg.push_str(&format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{words}</text>\n"
    ));
}

/// 1, 10, 100, 1k, 10k, 100k, 1M ...
fn short(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0}"),
        1e3..1e6 => format!("{:.0}k", value / 1e3),
        1e6..1e9 => format!("{:.0}M", value / 1e6),
        _ => format!("{value:e}"),
    }
}
