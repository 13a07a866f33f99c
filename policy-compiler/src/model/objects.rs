//! Objects by name, in a map that is cheap to copy.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Index, RangeBounds};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// Objects by name, in order. Copies share what is the same in them.
#[derive(Clone)]
pub struct Objects<K, V>(OrdMap<K, Arc<V>>);

impl<K: Ord + Clone, V: Eq> Objects<K, V> {
    /// The object of this name.
    pub fn get<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// The object of this name, to be kept without a copy.
    pub fn shared<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(name)
    }

    /// Whether the other is a copy of this one, or this one of it, in which nothing was changed since.
    pub fn is_unchanged_copy_of(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }

    /// The object of this name, with the name that lives as long.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, name: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let found = self.0.get_key_value(name);
        found.map(|(name, object)| (name, object.as_ref()))
    }

    /// Whether there is an object of this name.
    pub fn contains_key<Q: Ord + ?Sized>(&self, name: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and objects.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        self.0.iter().map(|(name, object)| (name, object.as_ref()))
    }

    /// Names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.0.keys()
    }

    /// Objects.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.0.values().map(AsRef::as_ref)
    }

    /// The objects themselves, copied.
    pub fn into_values(self) -> impl Iterator<Item = V>
    where
        V: Clone,
    {
        let objects = self.0.into_iter();
        objects.map(|(_, object)| Arc::unwrap_or_clone(object))
    }

    /// Names and objects of a range of names.
    pub fn range<R: RangeBounds<K>>(
        &self,
        range: R,
    ) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V, R> {
        let range = self.0.range(range);
        range.map(|(name, object)| (name, object.as_ref()))
    }

    /// Keeps what the predicate finds.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let objects = std::mem::take(&mut self.0).into_iter();
        self.0 = objects
            .filter(|(name, object)| keep(name, object))
            .collect();
    }

    pub(super) fn insert(&mut self, name: K, object: Arc<V>) {
        self.0.insert(name, object);
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, name: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.remove(name)
    }

    /// The names of objects that only one of the maps has, or that differ. What they share takes no time.
    pub(crate) fn changes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> {
        self.0.diff(&other.0).map(|item| match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name,
            DiffItem::Update { new, .. } => new.0,
        })
    }
}

impl<K: Ord, V: PartialEq> PartialEq for Objects<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Ord, V: Eq> Eq for Objects<K, V> {}

impl<K: Ord, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Objects<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for Objects<K, V> {
    type Output = V;

    fn index(&self, name: &Q) -> &V {
        &self.0[name]
    }
}

impl<'a, K: Ord + Clone, V: Eq> IntoIterator for &'a Objects<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
