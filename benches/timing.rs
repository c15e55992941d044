//! Times whole processes against each other: in turns, so that whatever else the machine does hits
//! all of them, and by medians.

use std::process::{Command, Stdio};

use crate::watch::{Output, Sample, watch};

/// One side of a comparison.
pub(crate) struct Contender<'a> {
    command: Command,
    output: Output,
    exit: i32,
    prepare: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// A command that must end with 0.
    pub(crate) fn new(command: Command) -> Contender<'a> {
        Contender { command, output: Output::Dropped, exit: 0, prepare: Box::new(|| {}) }
    }

    /// What is done before each of its turns, not timed.
    pub(crate) fn prepared(mut self, prepare: impl FnMut() + 'a) -> Contender<'a> {
        self.prepare = Box::new(prepare);
        self
    }

    /// Has its output read, and the times of that noted.
    pub(crate) fn read(mut self) -> Contender<'a> {
        self.output = Output::Read;
        self
    }

    /// It ends with this code when all is well.
    pub(crate) fn ending_with(mut self, exit: i32) -> Contender<'a> {
        self.exit = exit;
        self
    }

    fn turn(&mut self) -> Sample {
        (self.prepare)();
        let (sample, complaints) = watch(&self.command, self.output);
        let ended_well = sample.exit == Some(self.exit);
        assert!(ended_well, "{:?} ended with {:?}: {complaints}", self.command, sample.exit);
        sample
    }
}

/// The medians of so many turns each, after one that does not count.
pub(crate) fn alternate<const N: usize>(
    rounds: usize,
    contenders: [Contender<'_>; N],
) -> [Sample; N] {
    let medians = alternate_all(rounds, contenders.into());
    medians.try_into().expect("there are as many medians as contenders")
}

/// [`alternate`] for as many as there are.
pub(crate) fn alternate_all(rounds: usize, mut contenders: Vec<Contender<'_>>) -> Vec<Sample> {
    for contender in &mut contenders {
        contender.turn();
    }
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            samples.push(contender.turn());
        }
    }
    samples.iter().map(|samples| median_of_each(samples)).collect()
}

/// Each figure by its own median; the smaller of the two in the middle, where there are two.
fn median_of_each(samples: &[Sample]) -> Sample {
    Sample {
        exit: samples[0].exit,
        wall: median(samples, |sample| sample.wall),
        cpu: median(samples, |sample| sample.cpu),
        first_output: median(samples, |sample| sample.first_output),
        last_output: median(samples, |sample| sample.last_output),
        output_bytes: median(samples, |sample| sample.output_bytes),
        peak_bytes: median(samples, |sample| sample.peak_bytes),
    }
}

fn median<T: Ord>(samples: &[Sample], figure: impl Fn(&Sample) -> T) -> T {
    let mut figures: Vec<T> = samples.iter().map(figure).collect();
    figures.sort();
    figures.swap_remove((figures.len() - 1) / 2)
}

/// Runs a command that is not timed; gives what it prints, or what it complains of.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let ended = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if ended.status.success() {
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
    }
}

/// [`output`] of a command that cannot but succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    output(command).unwrap_or_else(|complaint| panic!("{command:?}: {complaint}"))
}
