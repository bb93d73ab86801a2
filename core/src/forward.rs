//! Typed edges: where a record goes next, and the ports from which a task's edges are made.
//!
//! A [`Port`] is built once per program and holds *suppliers*: recipes for what listens there. A task opens the
//! port and gets a [`Downstream`]: the listeners themselves, nested, owned by the node in front of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::context::TaskContext;
use crate::error::Result;
use crate::task_builder::TaskBuilder;

/// Where an item goes next.
pub trait Forward<T> {
    /// Passes one item down, depth first, to the last operator below.
    ///
    /// # Errors
    /// Whatever an operator below returns; the task then fails and is rolled back.
    fn forward(&mut self, cx: &mut TaskContext, item: T) -> Result<()>;
}

/// A recipe for a listener, run once per task on the thread that owns the task.
pub type Supplier<T> = Arc<dyn Fn(&mut TaskBuilder<'_>) -> Box<dyn Forward<T>> + Send + Sync>;

/// The outgoing edge of a node: a typed list of suppliers.
pub struct Port<T> {
    pub(crate) id: usize,
    pub(crate) suppliers: Arc<Mutex<Vec<Supplier<T>>>>,
}

impl<T> Clone for Port<T> {
    fn clone(&self) -> Self {
        Port { id: self.id, suppliers: self.suppliers.clone() }
    }
}

impl<T> Port<T> {
    /// A port; `id` is unique in its topology.
    pub fn new(id: usize) -> Self {
        Port { id, suppliers: Arc::default() }
    }

    /// Whether both are the same edge.
    pub fn is(&self, other: &Port<T>) -> bool {
        Arc::ptr_eq(&self.suppliers, &other.suppliers)
    }

    /// Adds a listener.
    pub fn subscribe(&self, supplier: impl Fn(&mut TaskBuilder<'_>) -> Box<dyn Forward<T>> + Send + Sync + 'static) {
        self.suppliers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(supplier));
    }

    pub(crate) fn suppliers(&self) -> Vec<Supplier<T>> {
        self.suppliers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An opened port: the listeners of one task. The last gets the item itself, the others clones.
pub enum Downstream<T> {
    /// Nobody listens.
    None,
    /// One listener: no clone.
    One(Box<dyn Forward<T>>),
    /// Several listeners.
    Many(Vec<Box<dyn Forward<T>>>),
    /// Several nodes lead to the same listeners (merge, joins).
    Shared(Rc<RefCell<Downstream<T>>>),
}

impl<T: Clone> Forward<T> for Downstream<T> {
    /// In place, so that the item is made where the listener finds it: copying what was just written in small parts
    /// waits for all of them.
    #[inline(always)]
    fn forward(&mut self, cx: &mut TaskContext, item: T) -> Result<()> {
        match self {
            Downstream::One(listener) => listener.forward(cx, item),
            Downstream::Shared(shared) => match &mut *shared.borrow_mut() {
                Downstream::One(listener) => listener.forward(cx, item),
                shared => shared.fan_out(cx, item),
            },
            others => others.fan_out(cx, item),
        }
    }
}

impl<T: Clone> Downstream<T> {
    #[inline(never)]
    fn fan_out(&mut self, cx: &mut TaskContext, item: T) -> Result<()> {
        match self {
            Downstream::One(listener) => listener.forward(cx, item),
            Downstream::None => Ok(()),
            Downstream::Many(listeners) => {
                let Some((last, others)) = listeners.split_last_mut() else { return Ok(()) };
                for listener in others {
                    listener.forward(cx, item.clone())?;
                }
                last.forward(cx, item)
            }
            Downstream::Shared(shared) => shared.borrow_mut().fan_out(cx, item),
        }
    }
}
