//! Small models built in code, and what importing them gives.

mod hostile;
mod operators;
mod quantized;
mod shapes;

use prost::Message;

use super::{
    parse,
    proto::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
        type_proto,
    },
};
use crate::{
    import::ImportOptions,
    ir::{Float, Graph, Node, Op, Value},
};

/// A model under construction.
#[derive(Clone)]
pub(super) struct Model(pub ModelProto);

impl Model {
    /// An empty model of a version of ONNX's operator set.
    pub(super) fn new(version: i64) -> Self {
        let set = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
        Self(ModelProto {
            ir_version: Some(8),
            opset_import: vec![set("", version), set("com.microsoft", 1)],
            graph: Some(GraphProto { name: Some("test".into()), ..GraphProto::default() }),
        })
    }

    pub(super) fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    /// A float input.
    pub(super) fn input(self, name: &str, dims: &[i64]) -> Self {
        self.typed_input(name, DataType::Float, dims)
    }

    pub(super) fn typed_input(mut self, name: &str, of: DataType, dims: &[i64]) -> Self {
        let dims = dims.iter().map(|&dim| Some(tensor_shape_proto::dimension::Value::DimValue(dim)));
        self.graph().input.push(info(name, of, dims.collect()));
        self
    }

    /// A float input, symbolic where a name stands in place of a number.
    pub(super) fn symbolic(mut self, name: &str, dims: &[&str]) -> Self {
        let dims = dims.iter().map(|dim| {
            Some(match dim.parse() {
                Ok(number) => tensor_shape_proto::dimension::Value::DimValue(number),
                Err(_) => tensor_shape_proto::dimension::Value::DimParam((*dim).into()),
            })
        });
        self.graph().input.push(info(name, DataType::Float, dims.collect()));
        self
    }

    pub(super) fn output(mut self, name: &str) -> Self {
        self.graph().output.push(info(name, DataType::Float, Vec::new()));
        self
    }

    /// A float initializer of small different numbers.
    pub(super) fn weight(self, name: &str, dims: &[i64]) -> Self {
        let count: i64 = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|index| (index % 7) as f32 - 3.0).collect();
        self.floats(name, dims, &values)
    }

    pub(super) fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let tensor = TensorProto {
            name: Some(name.into()),
            data_type: Some(DataType::Float as i32),
            dims: dims.to_vec(),
            float_data: values.to_vec(),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    /// An initializer of 64-bit integers in one dimension.
    pub(super) fn list(mut self, name: &str, values: &[i64]) -> Self {
        let tensor = TensorProto {
            name: Some(name.into()),
            data_type: Some(DataType::Int64 as i32),
            dims: vec![i64::try_from(values.len()).unwrap()],
            int64_data: values.to_vec(),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    /// An initializer of a type that is stored in 32-bit integers.
    pub(super) fn small(mut self, name: &str, of: DataType, dims: &[i64], values: &[i32]) -> Self {
        let tensor = TensorProto {
            name: Some(name.into()),
            data_type: Some(of as i32),
            dims: dims.to_vec(),
            int32_data: values.to_vec(),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    /// A node `op` with operands and results in one text each, separated by spaces; `-` is an absent operand.
    pub(super) fn node(self, op: &str, inputs: &str, outputs: &str, attributes: Vec<AttributeProto>) -> Self {
        self.named("", op, inputs, outputs, attributes)
    }

    pub(super) fn named(
        mut self,
        name: &str,
        op: &str,
        inputs: &str,
        outputs: &str,
        attribute: Vec<AttributeProto>,
    ) -> Self {
        let names = |text: &str| text.split_whitespace().map(|name| name.replace('-', "")).collect();
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        self.graph().node.push(NodeProto {
            name: Some(name.into()),
            op_type: Some(op.into()),
            domain: Some(domain.into()),
            input: names(inputs),
            output: names(outputs),
            attribute,
        });
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    pub(super) fn import(&self) -> Result<Graph<Float>, String> {
        self.batch(None)
    }

    pub(super) fn batch(&self, batch: Option<usize>) -> Result<Graph<Float>, String> {
        import_bytes(&self.bytes(), batch)
    }

    /// The imported graph.
    pub(super) fn ok(&self) -> Graph<Float> {
        self.import().unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The text of the faults.
    pub(super) fn refused(&self) -> String {
        match self.import() {
            Ok(graph) => panic!("was imported: {:?}", graph.nodes),
            Err(faults) => faults,
        }
    }
}

/// Imports, and holds what comes out to the verifier of graphs.
pub(super) fn import_bytes(bytes: &[u8], batch: Option<usize>) -> Result<Graph<Float>, String> {
    let graph = parse(bytes, "test", None, &ImportOptions { batch }).map_err(|faults| faults.to_string())?;
    crate::ir::verify::verify(&graph).unwrap_or_else(|faults| panic!("{faults}"));
    Ok(graph)
}

fn info(name: &str, of: DataType, dims: Vec<Option<tensor_shape_proto::dimension::Value>>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|value| tensor_shape_proto::Dimension { value }).collect();
    let tensor = type_proto::Tensor { elem_type: Some(of as i32), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
    }
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(of as i32), ..AttributeProto::default() }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec().into()), ..attribute(name, AttributeType::String) }
}

pub(super) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

/// The only node of a graph.
pub(super) fn single(graph: &Graph<Float>) -> &Node {
    assert_eq!(graph.nodes.len(), 1, "{:?}", graph.nodes);
    &graph.nodes[0]
}

/// The graph's first output.
pub(super) fn result(graph: &Graph<Float>) -> &Value {
    graph.value(graph.outputs[0])
}

/// The operators in order.
pub(super) fn ops(graph: &Graph<Float>) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

/// The elements of a constant operand.
pub(super) fn constant(graph: &Graph<Float>, node: &Node, index: usize) -> Vec<f32> {
    match &graph.value(node.inputs[index]).constant {
        Some(crate::ir::Constant::Dense(tensor)) => tensor.to_f32(),
        other => panic!("not a dense constant: {other:?}"),
    }
}

/// A model of one node that reads the float input `x`.
pub(super) fn unary(version: i64, op: &str, dims: &[i64], attributes: Vec<AttributeProto>) -> Model {
    Model::new(version).input("x", dims).node(op, "x", "y", attributes).output("y")
}

/// The operator that a model of one node becomes, and the shape of its result.
pub(super) fn becomes(model: &Model) -> (Op, Vec<usize>) {
    let graph = model.ok();
    (single(&graph).op.clone(), result(&graph).shape.clone())
}
