//! ONNX files to graphs: operator sets 7 to 23, float, QDQ and `QOperator` forms.
//!
//! Everything that is wrong is said at once, by node. Files are untrusted: [`limits`] has what one may cost.
//!
//! Shapes come from the graph's own inference, not from the file's `value_info`. Half and double precision become
//! single. Operators whose operands are all constants are evaluated, so that a file's arithmetic on shapes vanishes.
//! `QuantizeLinear` and `DequantizeLinear` stay nodes, also on constants.

mod faults;
mod finish;
mod fold;
mod importer;
pub mod limits;
mod node;
mod ops;
mod order;
#[allow(clippy::all, clippy::pedantic, missing_docs, dead_code)]
mod proto;
mod scan;
mod tensor;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use prost::{Message, bytes::Bytes};

use self::{
    faults::Collector,
    importer::{Binding, Importer, check_shape},
    limits::{Fallible, MAX_ENTRIES, MAX_NODE_OPERANDS, MAX_OPERANDS, MAX_RANK, Refusal, clip, refuse},
    node::NodeView,
    ops::Operator,
    proto::{
        GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto, tensor_shape_proto,
        type_proto,
    },
    tensor::External,
};
use super::ImportOptions;
use crate::{
    diag::{Diagnostic, Faults},
    ir::{Float, Graph, Value},
    tensor::{DType, Tensor},
};

pub use tensor::from_pb;

/// First and last supported version of ONNX's own operator set. 22 and 23 only add element types to the operators
/// that are supported here.
pub const OPERATOR_SETS: (i64, i64) = (7, 23);

/// Reads a model from the bytes of its file. `name` names the graph where the file does not; external data is read
/// from below `directory`, and refused without one.
///
/// # Errors
/// Everything that is wrong with the file or not supported.
pub fn parse(
    bytes: &[u8],
    name: &str,
    directory: Option<&Path>,
    options: &ImportOptions,
) -> Result<Graph<Float>, Faults> {
    parse_bound(bytes, name, directory, options, &BTreeMap::new())
}

/// [`parse`], with some of the model's inputs made constants: weights and scales that a file leaves to its user.
///
/// # Errors
/// As [`parse`], and a bound input that does not fit its declaration.
pub fn parse_bound(
    bytes: &[u8],
    name: &str,
    directory: Option<&Path>,
    options: &ImportOptions,
    bound: &BTreeMap<String, Tensor>,
) -> Result<Graph<Float>, Faults> {
    parse_buffer(Bytes::copy_from_slice(bytes), name, directory, options, bound)
}

/// [`parse_bound`] on a buffer whose parts are used in place.
pub(super) fn parse_buffer(
    bytes: Bytes,
    name: &str,
    directory: Option<&Path>,
    options: &ImportOptions,
    bound: &BTreeMap<String, Tensor>,
) -> Result<Graph<Float>, Faults> {
    scan::check(&bytes).map_err(Diagnostic::error)?;
    let model = ModelProto::decode(bytes).map_err(|error| Diagnostic::error(format!("not an ONNX model: {error}")))?;
    let versions = Versions::of(&model).map_err(|refusal| Diagnostic::error(refusal.message))?;
    let Some(graph) = &model.graph else { return Err(Diagnostic::error("the model has no graph").into()) };
    let name = if graph.name().is_empty() { name } else { clip(graph.name()) };
    let mut imp = Importer::new(name, External::below(directory));
    let mut faults = Collector::default();
    let mut file = match File::of(graph, &mut imp, &mut faults) {
        Some(file) if faults.is_empty() => file,
        _ => return Err(faults.into_faults()),
    };
    let order = order::live(&graph.node, &file.made_by, graph.output.iter().map(ValueInfoProto::name))
        .map_err(Diagnostic::error)?;
    file.read.extend(order.iter().flat_map(|&index| &graph.node[index].input).map(String::as_str));
    file.read.extend(graph.output.iter().map(ValueInfoProto::name));
    inputs(graph, &file, &mut imp, options, bound, &mut faults);
    nodes(graph, &file, &order, &versions, &mut imp, &mut faults);
    if faults.is_empty() {
        outputs(graph, &file, &mut imp, &mut faults);
    }
    if !faults.is_empty() {
        return Err(faults.into_faults());
    }
    let mut graph = imp.graph;
    finish::spread_scales(&mut graph);
    Ok(finish::prune(graph))
}

/// Names of the inputs that a model leaves to its user, in its order: those without an initializer.
///
/// # Errors
/// Bytes that are not a model.
pub fn input_names(bytes: &[u8]) -> Result<Vec<String>, Faults> {
    scan::check(bytes).map_err(Diagnostic::error)?;
    let model = ModelProto::decode(bytes).map_err(|error| Diagnostic::error(format!("not an ONNX model: {error}")))?;
    let Some(graph) = model.graph else { return Err(Diagnostic::error("the model has no graph").into()) };
    let constants: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let names = graph.input.iter().map(ValueInfoProto::name).filter(|name| !constants.contains(name));
    Ok(names.map(str::to_owned).collect())
}

/// Every operator that is supported: its domain (empty for ONNX's own), its name, and whether it is only evaluated
/// where its operands are constants.
pub fn supported() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    ops::all().map(|operator| (operator.domain, operator.name, operator.run.is_none()))
}

/// Versions of the operator sets that a model uses.
struct Versions {
    onnx: i64,
}

impl Versions {
    fn of(model: &ModelProto) -> Fallible<Self> {
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let versions = model.opset_import.iter().filter(|set| own(set.domain())).map(OperatorSetIdProto::version);
        let (first, last) = OPERATOR_SETS;
        match versions.max() {
            Some(version) if (first..=last).contains(&version) => Ok(Self { onnx: version }),
            Some(version) => refuse!("operator set not supported: version {version}; {first} to {last} are"),
            None => refuse!("not an ONNX model: it names no operator set"),
        }
    }
}

/// The file's names.
struct File<'m> {
    initializers: HashMap<&'m str, &'m TensorProto>,
    made_by: HashMap<&'m str, usize>,
    /// Names that a node that matters or an output reads.
    read: HashSet<&'m str>,
}

impl<'m> File<'m> {
    /// Collects the names, and what is wrong with them; `None` if the file is too large to go on.
    fn of(graph: &'m GraphProto, imp: &mut Importer<'m>, faults: &mut Collector) -> Option<Self> {
        let operands: usize = graph.node.iter().map(|node| node.input.len() + node.output.len()).sum();
        if operands > MAX_OPERANDS {
            faults.add(None, format!("{operands} operands and results of nodes; the limit is {MAX_OPERANDS}"));
            return None;
        }
        let counts = [graph.node.len(), graph.initializer.len(), graph.input.len(), graph.output.len()];
        if counts.iter().any(|&count| count > MAX_ENTRIES) {
            faults.add(None, format!("more than {MAX_ENTRIES} nodes, initializers, inputs or outputs: the limit"));
            return None;
        }
        if !graph.sparse_initializer.is_empty() {
            faults.add(None, "sparse initializers are not supported");
        }
        if graph.output.is_empty() {
            faults.add(None, "the graph has no outputs");
        }
        let mut file = Self { initializers: HashMap::new(), made_by: HashMap::new(), read: HashSet::new() };
        for tensor in &graph.initializer {
            imp.value_names.reserve(tensor.name());
            if file.initializers.insert(tensor.name(), tensor).is_some() {
                faults.add(Some(format!("initializer {:?}", clip(tensor.name()))), "name given twice");
            }
        }
        let mut inputs = HashSet::new();
        for input in &graph.input {
            imp.value_names.reserve(input.name());
            if input.name().is_empty() || !inputs.insert(input.name()) {
                faults.add(Some(format!("input {:?}", clip(input.name()))), "name missing or given twice");
            }
        }
        for (index, node) in graph.node.iter().enumerate() {
            imp.node_names.reserve(node.name());
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                imp.value_names.reserve(output);
                let twice = file.made_by.insert(output, index).is_some();
                if twice || inputs.contains(output.as_str()) || file.initializers.contains_key(output.as_str()) {
                    faults.node(label(node), node.op_type(), format!("{:?} is made twice", clip(output)).into());
                }
            }
        }
        Some(file)
    }
}

/// A node's name, or that of its first result.
fn label(node: &NodeProto) -> &str {
    if node.name().is_empty() { node.output.first().map_or("", String::as_str) } else { node.name() }
}

/// Whether the name of a symbolic dimension says that it is the batch.
fn is_batch(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("batch") || matches!(name.as_str(), "n" | "b" | "bs")
}

/// Declares the model's inputs: constants where they have an initializer or are bound, values otherwise.
fn inputs<'m>(
    graph: &'m GraphProto,
    file: &File<'m>,
    imp: &mut Importer<'m>,
    options: &ImportOptions,
    bound: &BTreeMap<String, Tensor>,
    faults: &mut Collector,
) {
    if options.batch == Some(0) {
        faults.add(None, "the batch must be at least 1: 0");
        return;
    }
    let fed: Vec<_> = graph.input.iter().filter(|input| !file.initializers.contains_key(input.name())).collect();
    for input in fed {
        let name = input.name();
        let path = || Some(format!("input {:?}", clip(name)));
        if let Some(tensor) = bound.get(name) {
            let constant = imp.kept(tensor.clone(), declared(input).map_or(0, type_proto::Tensor::elem_type));
            imp.names.insert(name, Binding::Constant(constant, name));
            continue;
        }
        match declare(input, imp, options) {
            Ok(value) => {
                let id = imp.graph.add_value(value);
                imp.graph.inputs.push(id);
                imp.names.insert(name, Binding::Value(id));
            }
            Err(refusal) => {
                faults.add(path(), refusal);
                imp.names.insert(name, Binding::Refused);
            }
        }
    }
}

/// What an input is declared to be, if a tensor.
fn declared(input: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The value of one input, its batch bound.
fn declare(input: &ValueInfoProto, imp: &mut Importer<'_>, options: &ImportOptions) -> Fallible<Value> {
    use tensor_shape_proto::dimension::Value as Dim;
    let Some(declared) = declared(input) else { refuse!("is not a tensor") };
    let dtype = tensor::dtype(declared.elem_type())?;
    let Some(dims) = &declared.shape else { refuse!("has no shape") };
    if dims.dim.len() > MAX_RANK {
        refuse!("{} dimensions; the limit is {MAX_RANK}", dims.dim.len());
    }
    let mut shape = Vec::with_capacity(dims.dim.len());
    let mut unknown = Vec::new();
    for (index, dim) in dims.dim.iter().enumerate() {
        match &dim.value {
            Some(Dim::DimValue(value)) if *value > 0 => {
                let mut value = usize::try_from(*value).map_err(|_| format!("dimension {index} is {value}"))?;
                if let (0, true, Some(batch)) = (index, dims.dim.len() > 1, options.batch)
                    && batch != value
                    && imp.rebatch.is_none_or(|rebatch| rebatch.0 == value)
                {
                    imp.rebatch = Some((value, batch));
                    value = batch;
                }
                shape.push(value);
            }
            // Exporters also write 0 or -1 for an unknown dimension.
            Some(Dim::DimValue(0 | -1)) | None if index == 0 => shape.push(options.batch.unwrap_or(1)),
            Some(Dim::DimParam(name)) if index == 0 || is_batch(name) => shape.push(options.batch.unwrap_or(1)),
            Some(Dim::DimParam(name)) => unknown.push(format!("dimension {index} is {:?}", clip(name))),
            Some(Dim::DimValue(0 | -1)) | None => unknown.push(format!("dimension {index} is not given")),
            Some(Dim::DimValue(value)) => refuse!("dimension {index} is {value}"),
        }
    }
    if !unknown.is_empty() {
        return Err(Refusal {
            message: format!("only the batch may be symbolic: {}", unknown.join(", ")),
            help: Some("fix the shape in the model, for example with onnxruntime's `make_dynamic_shape_fixed`".into()),
        });
    }
    check_shape(&shape)?;
    Ok(Value { name: imp.value_names.claim(input.name()), shape, dtype, quant: None, constant: None })
}

/// Imports the nodes in `order`.
fn nodes<'m>(
    graph: &'m GraphProto,
    file: &File<'m>,
    order: &[usize],
    versions: &Versions,
    imp: &mut Importer<'m>,
    faults: &mut Collector,
) {
    // Names whose elements depend on what the model is fed. Shapes do not: all are known.
    let fed = graph.input.iter().map(ValueInfoProto::name);
    let mut varies: HashSet<&str> = fed.filter(|name| matches!(imp.names.get(name), Some(Binding::Value(_)))).collect();
    for &index in order {
        let proto = &graph.node[index];
        if !matches!(proto.op_type(), "Shape" | "Size") && proto.input.iter().any(|name| varies.contains(name.as_str()))
        {
            varies.extend(proto.output.iter().map(String::as_str));
        }
        initializers(file, proto.input.iter().map(String::as_str), imp, faults);
        let results = match ops::find(proto.domain(), proto.op_type()) {
            None if proto.domain().is_empty() => Err("operator not supported".into()),
            None => Err(format!("operator not supported: domain {:?}", clip(proto.domain())).into()),
            Some(operator) => {
                let version = if operator.domain.is_empty() { versions.onnx } else { 1 };
                // The name is claimed only where a node of the graph may take it.
                let view = NodeView { proto, name: imp.node_names.claim(label(proto)), version };
                import(&operator, &view, file, &varies, imp)
            }
        };
        let results = results.unwrap_or_else(|refusal| {
            faults.node(label(proto), proto.op_type(), refusal);
            None
        });
        for (place, name) in proto.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let binding = results.as_ref().and_then(|results| results.get(place)).cloned();
            imp.names.insert(name, binding.unwrap_or(Binding::Refused));
        }
    }
}

/// Imports or evaluates one node; `None` if an operand was refused before.
fn import<'m>(
    operator: &Operator,
    view: &NodeView<'m>,
    file: &File<'m>,
    varies: &HashSet<&str>,
    imp: &mut Importer<'m>,
) -> Fallible<Option<Vec<Binding<'m>>>> {
    let proto = view.proto;
    view.only(operator.attributes)?;
    if proto.input.len() > MAX_NODE_OPERANDS {
        refuse!("{} operands; the limit is {MAX_NODE_OPERANDS}", proto.input.len());
    }
    let (fewest, most) = operator.operands;
    if proto.input.len() > most || (0..fewest).any(|index| required(operator, index) && view.input(index).is_none()) {
        let most = if most == usize::MAX { "more".to_owned() } else { most.to_string() };
        refuse!("{} operands; expected {fewest} to {most}", proto.input.iter().filter(|name| !name.is_empty()).count());
    }
    if proto.output.is_empty() || proto.output[0].is_empty() {
        refuse!("its first result has no name");
    }
    // Statistics of batch normalization and masks of dropout are only for training, indices of pools for unpooling.
    if let Some(second) = proto.output[1..].iter().find(|name| !name.is_empty() && file.read.contains(name.as_str())) {
        refuse!("second result not supported: {:?} is read", clip(second));
    }
    let mut constant = !proto.input.is_empty();
    let mut refused = false;
    for index in 0..proto.input.len() {
        match view.input(index).map(|name| imp.names.get(name)) {
            Some(Some(Binding::Refused)) => refused = true,
            Some(Some(Binding::Constant(..))) | None => {}
            Some(Some(Binding::Value(_))) => constant = false,
            Some(None) => refuse!("reads {:?}, which nothing makes", clip(view.input(index).unwrap_or_default())),
        }
    }
    if refused {
        // Whatever is wrong with the operand, it is made of the model's inputs: that this operator cannot take it is
        // said now, and not when the operand has been mended.
        let varying = proto.input.iter().any(|name| varies.contains(name.as_str()));
        if operator.run.is_none() && varying {
            refuse!("supported only where its operands are constants");
        }
        return Ok(None);
    }
    match (operator.fold, operator.run) {
        (Some(fold), _) if constant => {
            let operands =
                (0..proto.input.len()).map(|index| imp.constant(view, index)).collect::<Fallible<Vec<_>>>()?;
            if operands.iter().flatten().any(|tensor| imp.dtype_of(tensor) == DType::Int4) {
                refuse!("of a constant of INT4, which is supported only where `DequantizeLinear` reads it");
            }
            let tensor = fold(view, &operands, &mut imp.budget)?;
            Ok(Some(vec![Binding::Constant(tensor, view.output(0))]))
        }
        (_, Some(run)) => run(imp, view).map(Some),
        _ => refuse!("supported only where its operands are constants"),
    }
}

/// Whether an operand must be there: the zero points of ONNX Runtime's operators may be left out in the middle.
fn required(operator: &Operator, index: usize) -> bool {
    operator.domain.is_empty() || index == 0
}

/// Decodes the initializers that are read for the first time.
fn initializers<'m>(
    file: &File<'m>,
    names: impl Iterator<Item = &'m str>,
    imp: &mut Importer<'m>,
    faults: &mut Collector,
) {
    for name in names {
        let Some(proto) = file.initializers.get(name) else { continue };
        if imp.names.contains_key(name) {
            continue;
        }
        let binding = match imp.decoded(proto) {
            Ok(tensor) => Binding::Constant(tensor, name),
            Err(message) => {
                faults.add(Some(format!("initializer {:?}", clip(name))), message);
                Binding::Refused
            }
        };
        imp.names.insert(name, binding);
    }
}

/// Marks the model's outputs, under the model's names.
fn outputs<'m>(graph: &'m GraphProto, file: &File<'m>, imp: &mut Importer<'m>, faults: &mut Collector) {
    initializers(file, graph.output.iter().map(ValueInfoProto::name), imp, faults);
    let mut seen = HashSet::new();
    let mut taken = HashSet::new();
    for output in &graph.output {
        let name = output.name();
        let path = || Some(format!("output {:?}", clip(name)));
        if !seen.insert(name) {
            faults.add(path(), "name given twice");
            continue;
        }
        let Some(binding) = imp.names.get(name).cloned() else {
            faults.add(path(), "nothing makes it");
            continue;
        };
        let value = match imp.enter(&binding, None) {
            Ok(value) => value,
            Err(refusal) => {
                faults.add(path(), refusal);
                continue;
            }
        };
        let made = imp.producer(value).is_some();
        let value = if imp.graph.value(value).name == name && made {
            value
        } else if made && !taken.contains(&value) {
            // The result of an operator that vanished takes the model's name.
            let name = imp.value_names.claim(name);
            imp.graph.value_mut(value).name = name;
            value
        } else {
            imp.copy(value, name)
        };
        taken.insert(value);
        imp.graph.outputs.push(value);
    }
}
