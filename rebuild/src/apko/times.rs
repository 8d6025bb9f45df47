//! The times of a build: the epoch option and the creation time.
//!
//! Invariant: no clock. The times come from the options of the build and from the build dates of
//! packages; the mtimes of package files are never clamped to them.

/// What sets the times of a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildTimes {
    /// The variable SOURCE_DATE_EPOCH: not there; there but blank; or a number of seconds.
    pub source_date_epoch: Option<Option<i64>>,
    /// `--build-date`, seconds since 1970.
    pub build_date: Option<i64>,
}

impl BuildTimes {
    /// The epoch option: the variable if it says something, else the build date, else 1970.
    pub fn epoch_option(&self) -> i64 {
        self.source_date_epoch.flatten().or(self.build_date).unwrap_or(0)
    }

    /// When the image counts as created: the option if the variable exists, else the newest of the
    /// option and the packages' build dates.
    pub fn created(&self, build_dates: impl Iterator<Item = i64>) -> i64 {
        let option = self.epoch_option();
        match self.source_date_epoch {
            Some(_) => option,
            None => build_dates.fold(option, i64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_even_when_blank() {
        let dates = || [5, 9, 7].into_iter();
        let times = |source_date_epoch, build_date| BuildTimes { source_date_epoch, build_date };
        assert_eq!(times(None, None).created(dates()), 9);
        assert_eq!(times(None, Some(20)).created(dates()), 20);
        assert_eq!(times(None, Some(2)).created(dates()), 9);
        assert_eq!(times(Some(None), None).created(dates()), 0);
        assert_eq!(times(Some(None), Some(3)).created(dates()), 3);
        assert_eq!(times(Some(Some(1)), Some(3)).created(dates()), 1);
        assert_eq!(times(Some(Some(1)), Some(3)).epoch_option(), 1);
    }
}
