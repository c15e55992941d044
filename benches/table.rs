//! The table of all that was measured, a row for a piece of work and each peer it stands beside.

use std::time::Duration;

use crate::watch::Sample;

/// A piece of work, and what it stands beside.
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) files: usize,
    pub(crate) ours: Figures,
    /// A peer's name and figures; `None` where there is none, or it is not installed.
    pub(crate) peer: Option<(String, Figures)>,
    /// What is aimed at.
    pub(crate) aim: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: u64,
}

impl Figures {
    /// From start to exit.
    pub(crate) fn to_exit(sample: &Sample) -> Figures {
        Figures { wall: sample.wall, cpu: sample.cpu, peak_bytes: sample.peak_bytes }
    }

    /// From start to the last output; the processor's time is that to the exit.
    pub(crate) fn to_verdicts(sample: &Sample) -> Figures {
        Figures { wall: sample.last_output, ..Figures::to_exit(sample) }
    }
}

const HEADINGS: [&str; 10] =
    ["work", "files", "ms", "CPU ms", "MB", "beside", "ms", "CPU ms", "ratios", "aim"];

/// The rows as Markdown, which is as good in a terminal.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let lines: Vec<[String; 10]> =
        std::iter::once(headings).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max();
    let widths: [usize; 10] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for (number, cells) in lines.iter().enumerate() {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += &format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            text += &format!("|{}\n", widths.map(|width| "-".repeat(width + 2) + "|").concat());
        }
    }
    text
}

impl Row {
    fn cells(&self) -> [String; 10] {
        let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1e3);
        let ratio = |ours: Duration, theirs: Duration| {
            format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64())
        };
        let ours = &self.ours;
        let [name, wall, cpu, ratios] = match &self.peer {
            Some((name, theirs)) => {
                let (wall, cpu) = (ratio(ours.wall, theirs.wall), ratio(ours.cpu, theirs.cpu));
                [name.clone(), ms(theirs.wall), ms(theirs.cpu), format!("{wall} / {cpu}")]
            }
            None => Default::default(),
        };
        [
            self.work.clone(),
            self.files.to_string(),
            ms(ours.wall),
            ms(ours.cpu),
            format!("{:.1}", ours.peak_bytes as f64 / 1e6),
            name,
            wall,
            cpu,
            ratios,
            self.aim.to_owned(),
        ]
    }
}
