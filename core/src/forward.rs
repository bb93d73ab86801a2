//! Typed edges: where a record goes next.

use std::cell::RefCell;
use std::rc::Rc;

use crate::context::TaskContext;
use crate::error::Result;

/// Where an item goes next.
pub trait Forward<T> {
    /// Passes one item down, depth first, to the last operator below.
    ///
    /// # Errors
    /// Whatever an operator below returns; the task then fails and is rolled back.
    fn forward(&mut self, cx: &mut TaskContext, item: T) -> Result<()>;
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
