//! What is true of the images in memory, and the few steps that change it together with the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::Usage;
use super::disk::{Disk, Record};
use super::fetch::{Claim, Claimed};
use super::pull::{Flight, Key};
use crate::bundled;
use crate::config::{Sources, StoreConfig};
use crate::digest::Digest;
use crate::error::Error;
use crate::image::{Image, ImageConfig};
use crate::notice::Board;
use crate::registry::manifest::Config;
use crate::unpack::Stats;

/// Layers unpacked at the same time for all pulls together; each may take 70 MiB (zstd) and two threads.
const UNPACKS_MAX: usize = 4;

/// The store, behind its handles.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: StoreConfig,
    pub(super) disk: Disk,
    pub(super) snapshot: watch::Sender<Arc<Vec<Arc<Image>>>>,
    /// Pulls at the same time.
    pub(super) at_once: Semaphore,
    pub(super) unpacks: Semaphore,
    /// Exports at the same time: each has its layers on the disk a second time.
    pub(super) exports: Semaphore,
    pub(super) notices: Board,
    /// Taken before `state` by whoever changes the index or removes layers.
    change: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    sources: Arc<Sources>,
    bundled: Vec<Arc<Image>>,
    records: BTreeMap<Digest, (Record, Arc<Image>)>,
    /// Images of which something is missing. Nobody finds them, but containers may run from their layers; they are whole
    /// again when they are pulled again.
    broken: BTreeMap<Digest, Record>,
    layers: BTreeMap<Digest, Stats>,
    /// What lies in the folder of damaged things.
    aside: Stats,
    /// How many holders an image has, by id.
    holds: HashMap<String, usize>,
    /// How many pulls need a layer.
    pins: HashMap<Digest, usize>,
    pub(super) pulls: HashMap<Key, Flight>,
    pub(super) claims: HashMap<Digest, watch::Receiver<()>>,
}

/// Layers that a pull needs.
pub(super) struct Pins {
    inner: Arc<Inner>,
    layers: Vec<Digest>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        for layer in &self.layers {
            if let Some(count) = state.pins.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(layer);
                }
            }
        }
    }
}

impl Inner {
    pub(super) fn open(config: StoreConfig) -> Result<Self, Error> {
        let disk = Disk::open(&config.root)?;
        let bundled = bundled::list(&config.bundled).into_iter().map(Arc::new).collect();
        let (records, trouble) = disk.records()?;
        let notices = Board::new();
        let wanted: BTreeSet<Digest> = records.iter().flat_map(|r| &r.layers).copied().collect();
        if let Some(trouble) = trouble {
            let documents = records.iter().flat_map(|r| [r.id, r.manifest]).collect();
            let aside = disk.set_unknown_aside(&wanted, &documents)?;
            let message = format!(
                "{trouble}: {} images are known, {aside} layers of others lie in {}",
                records.len(),
                disk.root.join("damaged").display()
            );
            notices.tell("ImageIndexDamaged", "images", message);
            disk.write_records(records.clone())?;
        }
        let layers = disk.load_layers(&wanted)?;
        let sources = Arc::new(config.sources.clone());
        let aside = disk.aside();
        let mut state = State { sources, bundled, layers, aside, ..State::default() };
        for record in records {
            match state.load(&disk, &record) {
                Ok(image) => {
                    state.records.insert(record.id, (record, Arc::new(image)));
                }
                Err(error) => {
                    let names: Vec<&String> = record.repo_tags.iter().collect();
                    let message = format!(
                        "{names:?} cannot be used until it is pulled again: {}",
                        crate::notice::chain(&error)
                    );
                    notices.tell("ImageDamaged", format!("image/{}", record.id), message);
                    state.broken.insert(record.id, record);
                }
            }
        }
        let inner = Self {
            snapshot: watch::Sender::default(),
            at_once: Semaphore::new(config.limits.parallel_pulls.max(1)),
            unpacks: Semaphore::new(UNPACKS_MAX),
            exports: Semaphore::new(1),
            notices,
            change: Mutex::default(),
            state: Mutex::new(state),
            disk,
            config,
        };
        inner.publish(&inner.state());
        Ok(inner)
    }

    /// Where images come from at this moment.
    pub(super) fn sources(&self) -> Arc<Sources> {
        self.state().sources.clone()
    }

    pub(super) fn set_sources(&self, sources: Sources) {
        self.state().sources = Arc::new(sources);
    }

    /// Everything in memory. Nothing waits while this is locked.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let pulled = state.records.values().filter(|(record, _)| !record.removed);
        let images = state.bundled.iter().chain(pulled.map(|(_, image)| image)).cloned();
        self.snapshot.send_replace(Arc::new(images.collect()));
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.state();
        let mut usage = Usage { mountpoint: self.config.root.clone(), ..Usage::default() };
        for stats in state.layers.values().chain([&state.aside]) {
            usage.bytes += stats.bytes;
            usage.inodes += stats.inodes;
        }
        usage
    }

    /// Nobody removes these layers while the result lives.
    pub(super) fn pin(self: &Arc<Self>, layers: &[Digest]) -> Pins {
        let mut state = self.state();
        for layer in layers {
            *state.pins.entry(*layer).or_default() += 1;
        }
        Pins { inner: self.clone(), layers: layers.to_vec() }
    }

    /// Who gets a layer.
    pub(super) fn claim(self: &Arc<Self>, diff_id: Digest) -> Claim {
        let mut state = self.state();
        if state.layers.contains_key(&diff_id) {
            return Claim::Here;
        }
        if let Some(theirs) = state.claims.get(&diff_id) {
            return Claim::Theirs(theirs.clone());
        }
        let (done, waiting) = watch::channel(());
        state.claims.insert(diff_id, waiting);
        Claim::Ours(Claimed { inner: self.clone(), diff_id, _done: done })
    }

    /// A layer is complete. It must be pinned.
    pub(super) fn keep_layer(
        &self,
        place: &Path,
        diff_id: Digest,
        stats: &Stats,
    ) -> Result<(), Error> {
        self.disk.finish_layer(place, &diff_id, stats)?;
        self.state().layers.insert(diff_id, *stats);
        Ok(())
    }

    /// An image is complete; its layers are pinned. When this returns it is on the disk, and its names mean it and
    /// nothing else. `since` was opened before anything was written.
    pub(super) fn commit(
        &self,
        mut record: Record,
        config: ImageConfig,
        documents: &[Vec<u8>],
        since: &File,
    ) -> Result<Arc<Image>, Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        for document in documents {
            self.disk.write_document(document)?;
        }
        self.disk.sync(since)?;
        let before = self.state().records.clone();
        let mut records = before.clone();
        if let Some((known, _)) = records.remove(&record.id).filter(|(known, _)| !known.removed) {
            record.repo_tags.extend(known.repo_tags);
            record.repo_digests.extend(known.repo_digests);
        }
        let mut state = self.state();
        for (other, image) in records.values_mut() {
            if other.repo_tags.iter().any(|tag| record.repo_tags.contains(tag)) {
                other.repo_tags.retain(|tag| !record.repo_tags.contains(tag));
                *image = Arc::new(state.image(&self.disk, other, image.config.clone()));
            }
        }
        let image = Arc::new(state.image(&self.disk, &record, config));
        let id = record.id;
        records.insert(id, (record, image.clone()));
        state.records = records;
        let healed = state.broken.remove(&id);
        self.write(state, before).inspect_err(|_| {
            self.state().broken.extend(healed.map(|record| (id, record)));
        })?;
        self.tell_devices(&id);
        Ok(image)
    }

    /// Whoever packed a device node into an image may wonder where it is.
    fn tell_devices(&self, id: &Digest) {
        let state = self.state();
        let Some((record, _)) = state.records.get(id) else { return };
        let layers: BTreeSet<&Digest> = record.layers.iter().collect();
        let stats = layers.into_iter().filter_map(|layer| state.layers.get(layer));
        let devices: u64 = stats.map(|stats| stats.devices).sum();
        let names: Vec<&str> = record.repo_tags.iter().map(String::as_str).collect();
        let message = format!(
            "{} has {devices} device nodes, which were left out: containers get devices from the node only",
            names.join(", ")
        );
        drop(state);
        if devices > 0 {
            self.notices.tell("ImageDevicesLeftOut", format!("image/{id}"), message);
        }
    }

    /// Takes all names from an image; keeps its layers while somebody holds it.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let before = state.records.clone();
        let Some(id) = id.parse().ok().filter(|id| before.contains_key(id)) else { return Ok(()) };
        if state.holds.contains_key(&id.to_string()) {
            if let Some((record, _)) = state.records.get_mut(&id) {
                record.removed = true;
                record.repo_tags.clear();
                record.repo_digests.clear();
            }
        } else {
            state.records.remove(&id);
        }
        self.write(state, before)
    }

    /// Removes layers and documents that nobody needs. Returns the bytes freed.
    pub(super) fn collect(&self) -> Result<u64, Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let before = state.records.clone();
        let State { records, holds, .. } = &mut *state;
        records.retain(|id, (record, _)| !record.removed || holds.contains_key(&id.to_string()));
        if state.records.len() != before.len() {
            self.write(state, before)?;
            state = self.state();
        }
        let used: BTreeSet<Digest> =
            state.all().flat_map(|record| &record.layers).copied().collect();
        let State { layers, pins, .. } = &mut *state;
        let unused: Vec<(Digest, Stats)> =
            layers.extract_if(.., |id, _| !used.contains(id) && !pins.contains_key(id)).collect();
        let documents: BTreeSet<Digest> =
            state.all().flat_map(|record| [record.id, record.manifest]).collect();
        // A pull that comes now may unpack one of these again while it is removed: removing moves it away first, and
        // the claim below keeps the pull waiting for that.
        let claims: Vec<watch::Sender<()>> = unused
            .iter()
            .map(|(id, _)| {
                let (done, waiting) = watch::channel(());
                state.claims.insert(*id, waiting);
                done
            })
            .collect();
        drop(state);
        let mut freed = 0;
        let mut result = Ok(());
        for (id, stats) in &unused {
            match self.disk.remove_layer(id) {
                Ok(()) => freed += stats.bytes,
                Err(error) => result = Err(error),
            }
        }
        let mut state = self.state();
        for (id, _) in &unused {
            state.claims.remove(id);
        }
        drop(state);
        drop(claims);
        self.disk.keep_documents(&documents)?;
        result.map(|()| freed)
    }

    /// Removes what was set aside because it was damaged, unless containers of this start of the machine may run from
    /// it, and gives up images that are not whole and that nobody holds.
    pub(super) fn forget_damaged(&self) -> Result<(), Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if self.disk.remove_aside()? {
            self.state().aside = Stats::default();
        }
        let mut state = self.state();
        let before = state.records.clone();
        let State { broken, holds, .. } = &mut *state;
        broken.retain(|id, _| holds.contains_key(&id.to_string()));
        self.write(state, before)
    }

    /// Writes the index. When that fails, nothing has changed.
    fn write(
        &self,
        state: MutexGuard<'_, State>,
        before: BTreeMap<Digest, (Record, Arc<Image>)>,
    ) -> Result<(), Error> {
        let records = state.all().cloned().collect();
        drop(state);
        let written = self.disk.write_records(records);
        let mut state = self.state();
        if written.is_err() {
            state.records = before;
        }
        self.publish(&state);
        written
    }

    /// Bytes that the layers of an image take.
    pub(super) fn size(&self, record: &Record) -> u64 {
        let state = self.state();
        record.layers.iter().filter_map(|layer| state.layers.get(layer)).map(|s| s.bytes).sum()
    }

    pub(super) fn record(&self, id: &str) -> Option<Record> {
        self.state().records.get(&id.parse().ok()?).map(|(record, _)| record.clone())
    }

    pub(super) fn hold(&self, id: &str) -> Option<Arc<Image>> {
        let mut state = self.state();
        let bundled = state.bundled.iter().find(|image| image.id == id).cloned();
        let image = match bundled {
            Some(image) => image,
            None => {
                let digest: Digest = id.parse().ok()?;
                match state.records.get(&digest) {
                    Some((_, image)) => image.clone(),
                    // Its layers are all that counts for whoever runs from them.
                    None => {
                        let record = state.broken.get(&digest)?;
                        Arc::new(state.image(&self.disk, record, ImageConfig::default()))
                    }
                }
            }
        };
        *state.holds.entry(image.id.clone()).or_default() += 1;
        Some(image)
    }

    pub(super) fn release(&self, id: &str) {
        let mut state = self.state();
        if let Some(count) = state.holds.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                state.holds.remove(id);
            }
        }
    }
}

impl State {
    /// All that the index names.
    fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(|(record, _)| record).chain(self.broken.values())
    }

    /// An image as the index has it, if all of it is there.
    fn load(&self, disk: &Disk, record: &Record) -> Result<Image, Error> {
        disk.document(&record.manifest)?;
        let config = Config::parse(&disk.document(&record.id)?).map_err(|source| {
            Error::Manifest { reference: record.id.to_string(), source: source.into() }
        })?;
        if let Some(missing) = record.layers.iter().find(|id| !self.layers.contains_key(id)) {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::Read { path: disk.layer(missing), source });
        }
        Ok(self.image(disk, record, config.config))
    }

    fn image(&self, disk: &Disk, record: &Record, config: ImageConfig) -> Image {
        // The kernel takes no folder twice. A layer hides all it would show again further below.
        let mut seen = BTreeSet::new();
        let unique = record.layers.iter().rev().filter(|layer| seen.insert(**layer));
        let layers: Vec<&Digest> = unique.collect();
        let stats = layers.iter().filter_map(|layer| self.layers.get(layer));
        Image {
            id: record.id.to_string(),
            repo_tags: record.repo_tags.iter().cloned().collect(),
            repo_digests: record.repo_digests.iter().cloned().collect(),
            size_bytes: stats.map(|stats| stats.bytes).sum(),
            config,
            layers: layers.into_iter().map(|layer| disk.layer(layer)).collect(),
            pinned: false,
        }
    }
}
