//! Stands for the gate's types until they are here.

#[derive(Debug, Clone)]
pub struct Verified<V> {
    version: V,
}

#[derive(Debug, Clone)]
pub struct Approved<T> {
    inner: T,
}

impl<V> Approved<Verified<V>> {
    pub fn version(&self) -> &V {
        &self.inner.version
    }
}
