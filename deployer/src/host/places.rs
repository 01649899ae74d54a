//! Where the datasets of an application lie on this node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nebh_trust::release::ReleaseStatement;

use super::local::LocalHost;
use super::trouble;
use crate::data::{DataName, Dataset, DriverKind};
use crate::machine::{DatasetName, Trouble};

/// Dataset → where its data lie.
pub(super) type Places = BTreeMap<String, PathBuf>;

impl LocalHost {
    /// The release's datasets that have a place here.
    pub(super) fn datasets(&self, statement: &ReleaseStatement) -> Vec<(crate::data::DriverKind, Dataset)> {
        let has = |name: &str| statement.data.keys().any(|known| known.as_str() == name);
        self.app
            .datasets
            .iter()
            .filter(|(name, _)| has(name.as_text()))
            .map(|(name, settings)| {
                let dataset = Dataset { name: name.to_string(), path: settings.path.clone(), owner: None };
                (settings.driver, dataset)
            })
            .collect()
    }

    /// The live data of a release.
    pub(super) fn live_places(&self, statement: &ReleaseStatement) -> Places {
        self.datasets(statement).into_iter().map(|(_, dataset)| (dataset.name, dataset.path)).collect()
    }

    pub(super) fn places(&self, datasets: &[DatasetName]) -> Result<Vec<(DriverKind, Dataset)>, Trouble> {
        let place = |name: &DatasetName| {
            let settings = self.app.datasets.get(name).ok_or_else(|| {
                trouble::wrong(format!("dataset `{name}` has no place in the node's settings any more"))
            })?;
            let dataset = Dataset { name: name.to_string(), path: settings.path.clone(), owner: None };
            Ok((settings.driver, dataset))
        };
        datasets.iter().map(place).collect()
    }
}

pub(super) fn data_name(text: &str) -> Result<DataName, Trouble> {
    text.parse().map_err(|error| trouble::from_data(&error))
}
