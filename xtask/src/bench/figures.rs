//! What was measured: each figure under its name, for each number of objects, as often as it was measured.

use std::{borrow::Cow, collections::BTreeMap, mem, time::Duration};

use serde::{Deserialize, Serialize};

use super::scenarios::Scenario;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    Seconds,
    /// How many times something else.
    Times,
    Count,
    Percent,
    Mebibytes,
    KibibytesPerHour,
}

/// One figure, for all numbers of objects.
#[derive(Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: Cow<'static, str>,
    pub(super) unit: Unit,
    values: BTreeMap<usize, Vec<f64>>,
}

/// The figures of one scenario, in the order in which they were first measured.
#[derive(Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) scenario: Scenario,
    pub(super) figures: Vec<Figure>,
    /// How the memory went, in minutes and MiB, by number of objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) courses: BTreeMap<usize, Vec<(f64, f64)>>,
    /// When and how they were made, by number of objects.
    pub(super) made: BTreeMap<usize, Made>,
}

/// When and how figures were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// `2026-11-28`
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) runs: usize,
    /// How often each source was checked, in seconds.
    pub(super) interval: u64,
    /// How long the soak lasted, in minutes.
    pub(super) soak: u64,
    /// What other work took of the processors before the runs, in percent: the most.
    pub(super) other_work: u64,
}

/// All figures.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) sections: Vec<Section>,
}

/// Where the figures of one scenario, at one number of objects, go.
pub(super) struct Sheet<'a> {
    figures: &'a mut Section,
    objects: usize,
}

impl Figures {
    pub(super) fn sheet(&mut self, scenario: Scenario, objects: usize) -> Sheet<'_> {
        let at = self.sections.iter().position(|section| section.scenario == scenario).unwrap_or_else(|| {
            self.sections.push(Section::of(scenario));
            self.sections.len() - 1
        });
        let figures = self.sections.get_mut(at).expect("it was found, or pushed, at this place");
        Sheet { figures, objects }
    }

    /// Takes over what was measured anew, in place of what there is of the same scenarios with as many objects.
    pub(super) fn update(&mut self, new: Self) {
        for section in new.sections {
            let at = self.sections.partition_point(|known| known.scenario < section.scenario);
            match self.sections.get_mut(at) {
                Some(known) if known.scenario == section.scenario => known.update(section),
                _ => self.sections.insert(at, section),
            }
        }
    }

    /// The medians of a figure by number of objects.
    pub(super) fn series(&self, scenario: Scenario, figure: &str) -> Vec<(usize, f64)> {
        let sections = self.sections.iter().filter(|section| section.scenario == scenario);
        let figures = sections.flat_map(|section| &section.figures).filter(|other| other.name == figure);
        figures.flat_map(|figure| figure.sizes().filter_map(|size| Some((size, figure.median(size)?)))).collect()
    }
}

impl Section {
    fn of(scenario: Scenario) -> Self {
        Self { scenario, figures: Vec::new(), courses: BTreeMap::new(), made: BTreeMap::new() }
    }

    fn update(&mut self, new: Self) {
        for figure in &mut self.figures {
            figure.values.retain(|objects, _| !new.made.contains_key(objects));
        }
        self.courses.retain(|objects, _| !new.made.contains_key(objects));
        self.courses.extend(new.courses);
        self.made.extend(new.made);
        // In the order in which they are measured now.
        for mut figure in mem::replace(&mut self.figures, new.figures) {
            match self.figures.iter_mut().find(|known| known.name == figure.name) {
                Some(known) => known.values.append(&mut figure.values),
                None => self.figures.push(figure),
            }
        }
        self.figures.retain(|figure| !figure.values.is_empty());
    }
}

impl Sheet<'_> {
    /// When and how these figures are made.
    pub(super) fn made(&mut self, made: Made) {
        self.figures.made.insert(self.objects, made);
    }

    pub(super) fn seconds(&mut self, name: &'static str, value: Duration) {
        self.put(name, Unit::Seconds, value.as_secs_f64());
    }

    pub(super) fn times(&mut self, name: &'static str, value: f64) {
        self.put(name, Unit::Times, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer of anything here than an f64 has exact integers")]
    pub(super) fn count(&mut self, name: &'static str, value: impl TryInto<u64>) {
        self.put(name, Unit::Count, value.try_into().map_or(f64::NAN, |value: u64| value as f64));
    }

    /// A share of one.
    pub(super) fn share(&mut self, name: &'static str, value: f64) {
        self.put(name, Unit::Percent, value * 100.0);
    }

    pub(super) fn kibibytes_per_hour(&mut self, name: &'static str, value: f64) {
        self.put(name, Unit::KibibytesPerHour, value);
    }

    /// How the memory went, of the last run: minutes and MiB.
    pub(super) fn course(&mut self, points: Vec<(f64, f64)>) {
        self.figures.courses.insert(self.objects, points);
    }

    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    pub(super) fn bytes(&mut self, name: &'static str, value: u64) {
        self.put(name, Unit::Mebibytes, value as f64 / (1024.0 * 1024.0));
    }

    /// The median, the 99th percentile and the longest of these.
    pub(super) fn spread(&mut self, names: [&'static str; 3], values: Vec<Duration>) {
        self.percentiles(&[(names[0], 50), (names[1], 99), (names[2], 100)], values);
    }

    /// The median and the longest, where there are too few for more.
    pub(super) fn few(&mut self, names: [&'static str; 2], values: Vec<Duration>) {
        self.percentiles(&[(names[0], 50), (names[1], 100)], values);
    }

    /// Of nothing there are none.
    fn percentiles(&mut self, percents: &[(&'static str, usize)], mut values: Vec<Duration>) {
        values.sort();
        let percents = if values.is_empty() { &[] } else { percents };
        for (name, percent) in percents {
            self.seconds(name, percentile(&values, *percent));
        }
    }

    fn put(&mut self, name: &'static str, unit: Unit, value: f64) {
        let figures = &mut self.figures.figures;
        let at = figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            figures.push(Figure { name: name.into(), unit, values: BTreeMap::new() });
            figures.len() - 1
        });
        if let Some(figure) = figures.get_mut(at) {
            figure.values.entry(self.objects).or_default().push(value);
        }
    }
}

impl Figure {
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.values.keys().copied()
    }

    /// The middle one of what was measured, or of an even number the lower of the two.
    pub(super) fn median(&self, objects: usize) -> Option<f64> {
        let mut values = self.values.get(&objects)?.clone();
        values.sort_by(f64::total_cmp);
        values.get((values.len() - 1) / 2).copied()
    }

    /// The median and, where it was measured more than once and not always the same, the range.
    pub(super) fn cell(&self, objects: usize) -> String {
        let (Some(median), Some(values)) = (self.median(objects), self.values.get(&objects)) else {
            return "–".to_owned();
        };
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (least, shown, most) = (self.unit.write(least), self.unit.write(median), self.unit.write(most));
        let unit = self.unit.symbol();
        if least == most { format!("{shown}{unit}") } else { format!("{shown}{unit} ({least} to {most})") }
    }
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2}"),
            Self::Times | Self::Percent | Self::Mebibytes => format!("{value:.1}"),
            Self::Count | Self::KibibytesPerHour => format!("{value:.0}"),
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => " s",
            Self::Times => " ×",
            Self::Count => "",
            Self::Percent => " %",
            Self::Mebibytes => " MiB",
            Self::KibibytesPerHour => " KiB/h",
        }
    }
}

/// The smallest value that so many percent of the (ascending) values do not exceed.
fn percentile(ascending: &[Duration], percent: usize) -> Duration {
    let rank = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<_> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!(percentile(&values, 50), Duration::from_secs(100));
        assert_eq!(percentile(&values, 99), Duration::from_secs(198));
        assert_eq!(percentile(&values, 100), Duration::from_secs(200));
        assert_eq!(percentile(&values[..1], 50), Duration::from_secs(1));
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_what_was_and_of_nothing_else() {
        let measured = |scenario, objects: &[usize], name, seconds| {
            let mut figures = Figures::default();
            for objects in objects {
                let mut sheet = figures.sheet(scenario, *objects);
                sheet.seconds(name, Duration::from_secs(seconds));
                sheet.made(Made { runs: 1, ..Made::default() });
            }
            figures
        };
        let mut all = measured(Scenario::Rest, &[100, 1000], "a", 1);
        all.update(measured(Scenario::Rest, &[1000], "b", 2));
        all.update(measured(Scenario::ColdStart, &[100], "all", 3));
        all.update(measured(Scenario::Rest, &[5000], "a", 4));
        let scenarios: Vec<_> = all.sections.iter().map(|section| section.scenario).collect();
        assert_eq!(scenarios, [Scenario::ColdStart, Scenario::Rest]);
        assert_eq!(all.series(Scenario::Rest, "a"), [(100, 1.0), (5000, 4.0)]);
        assert_eq!(all.series(Scenario::Rest, "b"), [(1000, 2.0)]);
        // And it survives being written down.
        let read: Figures = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!(read.series(Scenario::Rest, "a"), all.series(Scenario::Rest, "a"));
    }

    #[test]
    fn what_was_measured_several_times_is_shown_as_its_median_with_the_range() {
        let mut figures = Figures::default();
        for seconds in [4, 2, 3] {
            figures.sheet(Scenario::ColdStart, 100).seconds("all", Duration::from_secs(seconds));
            figures.sheet(Scenario::ColdStart, 100).count("calls", 7_u64);
        }
        figures.sheet(Scenario::ColdStart, 1000).seconds("all", Duration::from_secs(9));
        let section = &figures.sections[0];
        let cells = |figure: usize| [100, 1000].map(|size| section.figures[figure].cell(size));
        assert_eq!(cells(0), ["3.00 s (2.00 to 4.00)", "9.00 s"]);
        assert_eq!(cells(1), ["7", "–"]);
        assert_eq!(figures.series(Scenario::ColdStart, "all"), [(100, 3.0), (1000, 9.0)]);
    }
}
