use crate::definition::FlowReturn;
use crate::scope::{Conversion, Input};
use crate::task::{Mapped, Node};
use crate::value::Data;

impl<T: Data> FlowReturn for Node<T> {
    type Output = T;

    fn into_output(self) -> Input {
        Input::node(self, Conversion::Plain)
    }
}

impl<T: Data> FlowReturn for Mapped<T> {
    type Output = Vec<T>;

    fn into_output(self) -> Input {
        Input::node(self.values(), Conversion::Plain)
    }
}
