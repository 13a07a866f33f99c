//! Objects by name, in a map that is cheap to copy.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Index, RangeBounds};
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// An object that has a name.
pub trait Named<K> {
    /// Its name, which no other object of its kind has at the same time.
    fn name(&self) -> &K;
}

/// Objects by name, in order. Copies share what is the same in them.
pub struct Objects<K, V>(OrdMap<ByName<K, V>, Arc<V>>);

/// An object as a key, so that nothing holds its name a second time: there are very many pods.
struct ByName<K, V>(Arc<V>, PhantomData<K>);

/// A name that is looked for.
struct Wanted<'a, Q: ?Sized>(&'a Q);

impl<K: Ord, V: Eq + Named<K>> Objects<K, V> {
    /// The object of this name.
    pub fn get<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(&Wanted(name)).map(AsRef::as_ref)
    }

    /// The object of this name, to be kept without a copy.
    pub fn shared<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(&Wanted(name))
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
        self.get(name).map(|object| (object.name(), object))
    }

    /// Whether there is an object of this name.
    pub fn contains_key<Q: Ord + ?Sized>(&self, name: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(&Wanted(name))
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
        self.values().map(|object| (object.name(), object))
    }

    /// Names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.values().map(Named::name)
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
        objects.map(|(name, object)| {
            drop(name);
            Arc::unwrap_or_clone(object)
        })
    }

    /// Names and objects of a range of names.
    pub fn range<R: RangeBounds<K>>(
        &self,
        range: R,
    ) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V, R> {
        let wanted: (Bound<Wanted<'_, K>>, Bound<Wanted<'_, K>>) = (
            range.start_bound().map(Wanted),
            range.end_bound().map(Wanted),
        );
        let range = self.0.range(wanted);
        range.map(|(_, object)| (object.name(), object.as_ref()))
    }

    /// Keeps what the predicate finds.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let objects = std::mem::take(&mut self.0).into_iter();
        self.0 = objects
            .filter(|(_, object)| keep(object.name(), object))
            .collect();
    }

    /// In place of the object of its name.
    pub(super) fn insert(&mut self, object: Arc<V>) {
        let name = ByName(Arc::clone(&object), PhantomData);
        self.0.insert(name, object);
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, name: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.remove(&Wanted(name))
    }

    /// The names of objects that only one of the maps has, or that differ. What they share takes no time.
    pub(crate) fn changes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> {
        self.0.diff(&other.0).map(|item| match item {
            DiffItem::Add(_, object) | DiffItem::Remove(_, object) => object.name(),
            DiffItem::Update { new, .. } => new.1.name(),
        })
    }
}

impl<K, V: Named<K>> ByName<K, V> {
    fn name(&self) -> &K {
        self.0.name()
    }
}

impl<K, V> Clone for ByName<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<K: Ord, V: Named<K>> PartialEq for ByName<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, V: Named<K>> Eq for ByName<K, V> {}

impl<K: Ord, V: Named<K>> PartialOrd for ByName<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, V: Named<K>> Ord for ByName<K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        match Arc::ptr_eq(&self.0, &other.0) {
            true => Ordering::Equal,
            false => self.name().cmp(other.name()),
        }
    }
}

impl<K: Borrow<Q>, V: Named<K>, Q: Ord + ?Sized> Equivalent<ByName<K, V>> for Wanted<'_, Q> {
    fn equivalent(&self, key: &ByName<K, V>) -> bool {
        self.compare(key).is_eq()
    }
}

impl<K: Borrow<Q>, V: Named<K>, Q: Ord + ?Sized> Comparable<ByName<K, V>> for Wanted<'_, Q> {
    fn compare(&self, key: &ByName<K, V>) -> Ordering {
        self.0.cmp(key.name().borrow())
    }
}

impl<K, V> Clone for Objects<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord, V: Eq + Named<K>> PartialEq for Objects<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Ord, V: Eq + Named<K>> Eq for Objects<K, V> {}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + fmt::Debug, V: Eq + Named<K> + fmt::Debug> fmt::Debug for Objects<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Borrow<Q>, V: Eq + Named<K>, Q: Ord + ?Sized> Index<&Q> for Objects<K, V> {
    type Output = V;

    fn index(&self, name: &Q) -> &V {
        &self.0[&Wanted(name)]
    }
}

impl<'a, K: Ord, V: Eq + Named<K>> IntoIterator for &'a Objects<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
