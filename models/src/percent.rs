//! Percentages as people write them: one reading for all programs.

use std::fmt;
use std::str::FromStr;

/// 0 % to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent {
    value: f64,
    /// Written without a sign and between 0 and 1, as shares are.
    like_a_share: bool,
}

/// What is no percentage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPercent(String);

impl fmt::Display for NoPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no percentage, expected 0 to 100, like 90 or 90%",
            self.0
        )
    }
}

impl std::error::Error for NoPercent {}

impl Percent {
    /// From a number of 0 to 100.
    pub fn new(value: f64) -> Result<Self, NoPercent> {
        if !(0.0..=100.0).contains(&value) {
            return Err(NoPercent(value.to_string()));
        }
        Ok(Self {
            value,
            like_a_share: value > 0.0 && value < 1.0,
        })
    }
    /// From 0 to 100.
    pub fn value(self) -> f64 {
        self.value
    }
    /// From 0 to 1.
    pub fn share(self) -> f64 {
        self.value / 100.0
    }
    /// True where a share may have been meant: 0.9 for 90 %. `0.9%` says that it is not.
    pub fn is_like_a_share(self) -> bool {
        self.like_a_share
    }
    /// What to print where a share may have been meant.
    pub fn warning(self, option: &str) -> Option<String> {
        self.like_a_share.then(|| {
            format!(
                "{option} {} means {self}; for the share of {} write {}%",
                self.value,
                self.value,
                rounded(100.0 * self.value)
            )
        })
    }
}

/// Without the last digits of 100 · 0.57, which is 56.99999999999999.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

impl FromStr for Percent {
    type Err = NoPercent;
    fn from_str(text: &str) -> Result<Self, NoPercent> {
        let wrong = || NoPercent(text.to_owned());
        let trimmed = text.trim();
        let (number, signed) = match trimmed.strip_suffix('%') {
            Some(number) => (number.trim_end(), true),
            None => (trimmed, false),
        };
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let percent = Self::new(value).map_err(|_| wrong())?;
        Ok(Self {
            like_a_share: percent.like_a_share && !signed,
            ..percent
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_with_and_without_their_sign() {
        for (text, value) in [("90", 90.0), ("90%", 90.0), ("99.03 %", 99.03), ("0", 0.0)] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!((percent.value(), percent.share()), (value, value / 100.0));
            assert_eq!(percent.warning("--sparsity"), None, "{text}");
        }
        for text in ["", "%", "-1", "101", "nan", "inf", "ninety", "90%%"] {
            let error = text.parse::<Percent>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn what_may_be_a_share_is_warned_about() {
        let warning = |text: &str| text.parse::<Percent>().unwrap().warning("--sparsity");
        let said = warning("0.57").unwrap();
        assert!(
            said.contains("means 0.57%") && said.contains("write 57%"),
            "{said}"
        );
        assert_eq!(warning("0.57%"), None);
        assert_eq!(warning("1"), None);
    }
}
