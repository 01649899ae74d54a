//! Other data under the same program: branches of snapshots, made before anybody waits for them, exchanged in, and put
//! back where not every dataset can be exchanged.
//!
//! Side effects: drivers; notes of identities below `<app>/timelines`; containers that wait with a branch mounted.
//!
//! Once a branch is live nothing stands under its name any more, and its program writes to it. So who it was is noted
//! before: a repeated exchange finds by identity what is done, never by a name.

use std::path::{Path, PathBuf};

use super::blocking::blocking;
use super::local::LocalHost;
use super::places::{Places, data_name};
use super::trouble;
use crate::data::{DataDriver, DataError, DataName, Dataset, DriverKind, Exchange, Identity};
use crate::machine::{Ahead, Branch, TimelineId, Trouble};

/// An exchange that did not come about.
pub(super) struct ExchangeFailed {
    pub(super) why: Trouble,
    /// True unless all datasets are known to be as they were.
    pub(super) torn: bool,
}

/// The datasets of one exchange, and the names in it.
struct Order {
    places: Vec<(DriverKind, Dataset)>,
    snapshot: DataName,
    incoming: DataName,
    left_as: DataName,
    notes: PathBuf,
}

impl LocalHost {
    /// A container of the generation that sees the data which will be live, and the branch that it sees.
    pub(super) async fn make_ahead(&self, ahead: &Ahead) -> Result<(), Trouble> {
        let generation = self.folder(ahead.generation).read().map_err(|error| trouble::failed(&error))?;
        let mut data = self.live_places(&generation.statement);
        if let Some(branch) = &ahead.branch {
            let order = self.order(branch, branch.timeline)?;
            data.extend(blocking(move || order.branches()).await?);
        }
        self.spare(ahead.generation, &generation, &data).await
    }

    pub(super) async fn exchange(&self, branch: &Branch, aside: TimelineId) -> Result<(), ExchangeFailed> {
        // Where it could not be looked, an earlier try may have come halfway.
        let unseen = |why| ExchangeFailed { why, torn: branch.datasets.len() > 1 };
        let order = self.order(branch, aside).map_err(unseen)?;
        blocking(move || Ok(order.exchange())).await.map_err(unseen)?
    }

    fn order(&self, branch: &Branch, aside: TimelineId) -> Result<Order, Trouble> {
        Ok(Order {
            places: self.places(&branch.datasets)?,
            snapshot: data_name(branch.snapshot.as_text())?,
            incoming: data_name(&branch.timeline.to_string())?,
            left_as: data_name(&aside.to_string())?,
            notes: self.path.join("timelines"),
        })
    }
}

impl Order {
    fn exchange(&self) -> Result<(), ExchangeFailed> {
        for (kind, dataset) in &self.places {
            if let Err(mut why) = self.exchange_one(&*kind.driver(), dataset) {
                let torn = !self.put_back(&mut why);
                return Err(ExchangeFailed { why, torn });
            }
        }
        Ok(())
    }

    fn exchange_one(&self, driver: &dyn DataDriver, dataset: &Dataset) -> Result<(), Trouble> {
        let (incoming, left_as) = (self.incoming.clone(), self.left_as.clone());
        let exchange = Exchange { incoming, identity: self.branch(driver, dataset)?, left_as };
        driver.exchange(dataset, &exchange).map(drop).map_err(|error| trouble::from_data(&error))
    }

    /// Makes the branch of one dataset, or finds the one that was made.
    fn branch(&self, driver: &dyn DataDriver, dataset: &Dataset) -> Result<Identity, Trouble> {
        let note = self.note(dataset);
        if let Some(identity) = read_note(&note) {
            return Ok(identity);
        }
        let made = driver.branch(dataset, &self.snapshot, &self.incoming);
        let identity = made.map_err(|error| trouble::from_data(&error))?.identity;
        write_note(&note, &identity).map_err(|error| trouble::failed(&error))?;
        Ok(identity)
    }

    /// Makes every branch; where they lie.
    fn branches(&self) -> Result<Places, Trouble> {
        let mut places = Places::new();
        for (kind, dataset) in &self.places {
            let driver = kind.driver();
            let identity = self.branch(&*driver, dataset)?;
            let holdings = driver.list(dataset).map_err(|error| trouble::from_data(&error))?;
            let waiting = holdings.timelines.into_iter().find(|held| held.identity == identity);
            // An exchange that was broken off may have made it live already.
            let path = waiting.map_or_else(|| dataset.path.clone(), |held| held.path);
            places.insert(dataset.name.clone(), path);
        }
        Ok(places)
    }

    /// Puts back what shows the branch, and says in `why` what became of it. False if one could not be.
    fn put_back(&self, why: &mut Trouble) -> bool {
        let mut whole = true;
        for (kind, dataset) in &self.places {
            // Without a note there is no branch, and what is live is what was.
            let Some(identity) = read_note(&self.note(dataset)) else { continue };
            if let Err(error) = self.put_back_one(&*kind.driver(), dataset, &identity) {
                // One dataset for itself is the one or the other, never both.
                whole = self.places.len() == 1;
                why.text = format!("{}; dataset `{}` could not be put back: {error}", why.text, dataset.name);
            }
        }
        whole
    }

    fn put_back_one(&self, driver: &dyn DataDriver, dataset: &Dataset, branch: &Identity) -> Result<(), DataError> {
        let holdings = driver.list(dataset)?;
        if holdings.live != *branch {
            return Ok(());
        }
        let names = [&self.left_as, &self.incoming];
        let left = holdings.timelines.into_iter().find(|held| names.contains(&&held.name));
        let missing =
            || DataError::Missing { dataset: dataset.name.clone(), kind: "timeline", name: self.left_as.clone() };
        let left = left.ok_or_else(missing)?;
        let back = Exchange { incoming: left.name, identity: left.identity, left_as: self.incoming.clone() };
        driver.exchange(dataset, &back).map(drop)
    }

    fn note(&self, dataset: &Dataset) -> PathBuf {
        self.notes.join(format!("{}-{}", dataset.name, self.incoming))
    }
}

fn read_note(path: &Path) -> Option<Identity> {
    std::fs::read_to_string(path).ok().filter(|text| !text.is_empty()).map(Identity::new)
}

fn write_note(path: &Path, identity: &Identity) -> std::io::Result<()> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let half = path.with_extension("half");
    let mut file = std::fs::File::create(&half)?;
    file.write_all(identity.to_string().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Two datasets, each with one line in `book`, a snapshot `pre` of an emptier book, and an order to go back to it.
    fn two() -> (tempfile::TempDir, Order) {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for name in ["books", "ledger"] {
            let dataset = Dataset { name: name.to_owned(), path: folder.path().join(name), owner: None };
            let driver = DriverKind::Copy.driver();
            driver.probe(&dataset).unwrap();
            fs::write(dataset.path.join("book"), "old").unwrap();
            driver.snapshot(&dataset, &"pre".parse().unwrap()).unwrap();
            fs::write(dataset.path.join("book"), "new").unwrap();
            places.push((DriverKind::Copy, dataset));
        }
        let [snapshot, incoming, left_as] = ["pre", "tl2", "tl1"].map(|name| name.parse().unwrap());
        let notes = folder.path().join("notes");
        (folder, Order { places, snapshot, incoming, left_as, notes })
    }

    fn live(order: &Order) -> Vec<String> {
        order.places.iter().map(|(_, dataset)| fs::read_to_string(dataset.path.join("book")).unwrap()).collect()
    }

    #[test]
    fn dataset_that_cannot_be_exchanged_puts_those_before_it_back() {
        let (folder, order) = two();
        let taken = folder.path().join("ledger.nebh/tl/tl1");
        fs::create_dir(&taken).unwrap();
        let ExchangeFailed { why, torn } = order.exchange().err().unwrap();
        assert!(!torn && why.text.contains("the name `tl1` is taken"), "{why}");
        assert_eq!(live(&order), ["new", "new"]);
        // Once the reason is gone it goes on with what is there.
        fs::remove_dir(taken).unwrap();
        order.exchange().ok().unwrap();
        assert_eq!(live(&order), ["old", "old"]);
        order.exchange().ok().expect("again changes nothing");
        assert_eq!(live(&order), ["old", "old"]);
    }

    #[test]
    fn half_an_exchange_that_cannot_be_undone_is_told() {
        let (folder, order) = two();
        order.exchange().ok().unwrap();
        // Somebody moved away what `books` was.
        fs::rename(folder.path().join("books.nebh/tl/tl1"), folder.path().join("moved")).unwrap();
        let mut why = Trouble::new(crate::machine::TroubleKind::Failed, "no");
        assert!(!order.put_back(&mut why));
        assert_eq!(live(&order), ["old", "new"]);
        assert!(why.text.contains("dataset `books` could not be put back"), "{why}");
    }

    #[test]
    fn branches_are_found_where_they_wait_and_where_they_are_live() {
        let (folder, order) = two();
        let waiting = order.branches().unwrap();
        assert_eq!(waiting["books"], folder.path().join("books.nebh/tl/tl2"));
        assert_eq!(fs::read_to_string(waiting["ledger"].join("book")).unwrap(), "old");
        order.exchange().ok().unwrap();
        assert_eq!(order.branches().unwrap()["books"], folder.path().join("books"));
    }
}
