//! Ports: the outgoing edges of a program, from which a task's edges are made.
//!
//! A [`Port`] is built once per program and holds *suppliers*: recipes for what listens there. A task opens the
//! port and gets a [`Downstream`]: the listeners themselves, nested, owned by the node in front of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::forward::{Downstream, Forward};
use crate::task_builder::TaskBuilder;

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

impl TaskBuilder<'_> {
    /// The listeners of a port.
    ///
    /// # Panics
    /// When two ports of different types have one number, which the DSL does not make.
    pub fn open<T: 'static>(&mut self, port: &Port<T>) -> Downstream<T> {
        if let Some(open) = self.ports.get(&port.id) {
            let shared = open.downcast_ref::<Rc<RefCell<Downstream<T>>>>();
            return Downstream::Shared(shared.expect("a port id has one type").clone());
        }
        let mut listeners: Vec<Box<dyn Forward<T>>> = port.suppliers().iter().map(|supplier| supplier(self)).collect();
        match listeners.len() {
            0 => Downstream::None,
            1 => Downstream::One(listeners.remove(0)),
            _ => Downstream::Many(listeners),
        }
    }

    /// The listeners of a port that several nodes of a task lead to (merge, joins): built once.
    pub fn open_shared<T: 'static>(&mut self, port: &Port<T>) -> Downstream<T> {
        if !self.ports.contains_key(&port.id) {
            let shared = Rc::new(RefCell::new(self.open(port)));
            self.ports.insert(port.id, Box::new(shared));
        }
        self.open(port)
    }
}
