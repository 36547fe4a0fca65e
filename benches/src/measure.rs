//! Alternating measurements, their medians, and the median of their ratios.

use std::time::Duration;

/// The error of a round.
type Error = Box<dyn std::error::Error>;

/// The figures of several rounds, one for each.
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the figure below which a part of all figures is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Measures two functions alternately: one round each for warm-up, then `rounds`. The first one alternates, so that
/// neither always finds the caches of the other.
///
/// # Errors
/// The first error of a round.
pub(crate) fn in_turn<F>(
    rounds: usize,
    mut one: impl FnMut() -> Result<F, Error>,
    mut other: impl FnMut() -> Result<F, Error>,
) -> Result<Vec<(F, F)>, Error> {
    one()?;
    other()?;
    let round = |number: usize| {
        if number.is_multiple_of(2) {
            let first = one()?;
            Ok((first, other()?))
        } else {
            let first = other()?;
            Ok((one()?, first))
        }
    };
    (0..rounds).map(round).collect()
}

/// The results of two functions, round by round.
pub(crate) struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    /// Measures two functions alternately.
    ///
    /// # Errors
    /// The first error of a round.
    pub(crate) fn in_turn(
        rounds: usize,
        one: impl FnMut() -> Result<f64, Error>,
        other: impl FnMut() -> Result<f64, Error>,
    ) -> Result<Self, Error> {
        in_turn(rounds, one, other).map(Self)
    }

    /// Selects one figure of rounds with several figures.
    pub(crate) fn of<F>(rounds: &[(F, F)], figure: impl Fn(&F) -> f64) -> Self {
        Self(rounds.iter().map(|(one, other)| (figure(one), figure(other))).collect())
    }

    /// Returns both medians.
    pub(crate) fn medians(&self) -> (f64, f64) {
        let median = |of: fn(&(f64, f64)) -> f64| Figures::of(self.0.iter().map(of)).median();
        (median(|pair| pair.0), median(|pair| pair.1))
    }

    /// Returns the median of the ratios of the first to the second.
    pub(crate) fn ratio(&self) -> f64 {
        self.ratios().median()
    }

    fn ratios(&self) -> Figures {
        Figures::of(self.0.iter().map(|(one, other)| one / other))
    }

    /// Prints a line with both medians in `unit`, and the ratio with its quartiles.
    pub(crate) fn print(&self, what: &str, one: &str, other: &str, unit: &str) {
        let (of_one, of_other) = self.medians();
        let ratios = self.ratios();
        println!(
            "  {what}: {one} {of_one:.3} {unit}, {other} {of_other:.3} {unit}, ratio {:.3} (half of the rounds: {:.3} to {:.3})",
            ratios.median(),
            ratios.quantile(0.25),
            ratios.quantile(0.75),
        );
    }
}

/// Prints whether an aim is met. The exit status does not depend on it, because machines differ.
pub(crate) fn aim(what: &str, figure: f64, at_most: f64) {
    let verdict = if figure <= at_most { "met" } else { "MISSED" };
    println!("  aim: {what} at most {at_most}: {verdict} ({figure:.3})");
}

/// Returns the nanoseconds for each of `times` calls, in CPU time of this thread, so that other load has little
/// effect.
pub(crate) fn nanoseconds(times: u32, mut call: impl FnMut(u32)) -> f64 {
    let ((), took) = cpu_of(|| (0..times).for_each(&mut call));
    each(took, times)
}

/// Returns the result of a call, and its CPU time on this thread.
pub(crate) fn cpu_of<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let started = thread_cpu();
    let result = call();
    (result, thread_cpu().saturating_sub(started))
}

/// Returns the nanoseconds for each of `times`.
pub(crate) fn each(took: Duration, times: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(times)
}

/// Pins the calling thread to one processor, so that servers and their load do not move. Without a second processor it
/// does nothing.
pub(crate) fn pin(processor: usize) {
    #[cfg(target_os = "linux")]
    if std::thread::available_parallelism().is_ok_and(|there| there.get() > processor) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            eprintln!("thread not pinned to processor {processor}: {error}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}

/// Returns the CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
