//! The overview.

use askama::Template;
use axum::response::{IntoResponse, Response};

use super::render;
use super::trouble::Trouble;
use super::visit::{Frame, Visitor};
use crate::{
    AppView, AttentionView, Concern, EngineView, MinuteView, Seal, StatusView, TrafficView,
};

/// The size of a plot, in its own units.
const WIDTH: u64 = 600;
const HEIGHT: u64 = 120;

/// A bar of a plot: a part of a minute.
struct Bar {
    class: &'static str,
    x: u64,
    y: u64,
    width: u64,
    height: u64,
}

/// A minute of a plot, with what it says when one points at it.
struct Column {
    at: u64,
    x: u64,
    width: u64,
    counts: Vec<u64>,
    bars: Vec<Bar>,
}

/// Counts by minute, as bars upon bars.
struct Plot {
    columns: Vec<Column>,
    most: u64,
    total: u64,
    first: u64,
    last: u64,
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

impl Plot {
    /// Of each minute several counts, each with the class that gives it its colour.
    fn new(
        minutes: &[MinuteView],
        classes: &[&'static str],
        counts: impl Fn(&MinuteView) -> Vec<u64>,
    ) -> Self {
        let of_all: Vec<Vec<u64>> = minutes.iter().map(counts).collect();
        let most = of_all.iter().map(|counts| sum(counts)).max().unwrap_or(0);
        let step = WIDTH / (minutes.len() as u64).max(1);
        let mut columns = Vec::new();
        for (place, (minute, counts)) in (0..).zip(minutes.iter().zip(of_all.clone())) {
            let (x, width) = (place * step, step.saturating_sub(2).max(1));
            let (mut bars, mut below) = (Vec::new(), 0);
            for (class, count) in classes.iter().zip(&counts) {
                // At least a line, so that one refusal among thousands is seen.
                let height = match count {
                    0 => continue,
                    // Of counts that nobody can have, no more than the frame is taken.
                    count => (count.saturating_mul(HEIGHT) / most.max(1)).clamp(2, HEIGHT),
                };
                below += height;
                let y = HEIGHT.saturating_sub(below);
                bars.push(Bar { class, x, y, width, height });
            }
            columns.push(Column { at: minute.at, x, width: step, counts, bars });
        }
        Self {
            columns,
            most,
            total: of_all.iter().fold(0, |total, counts| total.saturating_add(sum(counts))),
            first: minutes.first().map_or(0, |minute| minute.at),
            last: minutes.last().map_or(0, |minute| minute.at),
        }
    }
}

/// An app among the busiest ones.
struct Busy {
    name: String,
    app_key: String,
    enc: u64,
    dec: u64,
    reenc: u64,
}

/// What was counted.
struct Traffic {
    messages: Plot,
    refusals: Plot,
    apps: Vec<Busy>,
    cut: bool,
}

impl Traffic {
    fn new(view: TrafficView, names: &[AppView]) -> Self {
        let messages = ["enc", "dec", "reenc"];
        let messages = Plot::new(&view.minutes, &messages, |one| vec![one.enc, one.dec, one.reenc]);
        let refusals = Plot::new(&view.minutes, &["refused"], |one| vec![one.refused]);
        let busy = view.apps.into_iter().map(|app| {
            let known = names.iter().find(|known| known.app_key == app.app_key);
            let name = known.map_or(&app.app_key, |known| &known.name).clone();
            let (enc, dec, reenc) = (app.enc, app.dec, app.reenc);
            Busy { name, app_key: app.app_key, enc, dec, reenc }
        });
        Self { messages, refusals, apps: busy.take(8).collect(), cut: view.cut }
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page<'a> {
    f: &'a Frame,
    status: StatusView,
    attention: Option<AttentionView>,
    traffic: Option<Traffic>,
    apps: Option<usize>,
}

impl Page<'_> {
    fn is_open(&self) -> bool {
        self.status.seal.state == Seal::Open
    }

    fn engines_open(&self) -> usize {
        let open = |engine: &&EngineView| engine.state == Seal::Open && !engine.foreign;
        self.status.engines.iter().filter(open).count()
    }
}

pub(super) async fn show(visitor: Visitor) -> Response {
    let api = &visitor.api;
    let (status, attention, traffic, apps) =
        tokio::join!(api.status(), api.attention(), api.traffic(60), api.list_apps());
    let status = match status {
        Ok(status) => status,
        Err(error) => return Trouble::from(error).into_response(),
    };
    // Sealed, or without its keystore, the rest is not known: that is what the page says then.
    let apps = apps.ok();
    let names = apps.as_ref().map_or(&[][..], |list| &list.apps);
    let page = Page {
        f: visitor.frame(),
        status,
        attention: attention.ok(),
        traffic: traffic.ok().map(|traffic| Traffic::new(traffic, names)),
        apps: apps.as_ref().map(|list| list.apps.len()),
    };
    render(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_keeps_within_its_frame_and_shows_what_is_small() {
        let minute = |at, enc, dec| MinuteView { at, enc, dec, ..MinuteView::default() };
        let minutes = [minute(0, 0, 0), minute(60, 100_000, 1), minute(120, 50_000, 50_000)];
        let plot = Plot::new(&minutes, &["enc", "dec"], |one| vec![one.enc, one.dec]);
        assert_eq!((plot.most, plot.total, plot.first, plot.last), (100_001, 200_001, 0, 120));
        assert!(plot.columns[0].bars.is_empty());
        for bar in plot.columns.iter().flat_map(|column| &column.bars) {
            assert!(bar.x + bar.width <= WIDTH && bar.y < HEIGHT && bar.height >= 2, "{}", bar.y);
        }
        assert_eq!(plot.columns[1].bars[1].height, 2, "one message among many");
        let nothing = Plot::new(&[], &["enc"], |one| vec![one.enc]);
        assert!(nothing.columns.is_empty());
    }
}
