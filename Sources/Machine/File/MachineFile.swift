// A machine description as YAML text. docs/machine-description.5.md explains it to users; the keys are in
// the tables of UnitFields.swift and DeviceFields.swift.

internal import IOMMUFD
internal import Yams

package enum MachineFile {
  /// - Parameter name: what errors call the text: a file's path.
  package static func read(
    _ text: String, named name: String
  ) throws(MachineFileError) -> MachineDescription {
    do throws(Mistake) {
      return try description(in: text)
    } catch {
      throw MachineFileError(name, error)
    }
  }

  /// The text that ``read(_:named:)`` understands as `description`. Every key is in it.
  package static func write(_ description: MachineDescription) throws -> String {
    try Yams.serialize(node: Node(description, MachineDescription.fields))
  }

  /// Every key with the values it takes and what it means, by what it describes.
  package static var keys: [(subject: String, keys: [Key])] {
    [
      ("a machine", MachineDescription.fields.map(Key.init)),
      ("a unit", MachineDescription.Unit.fields.map(Key.init)),
    ]
      + MachineDescription.Unit.KindName.allCases.map {
        ("a unit of kind \($0.rawValue)", $0.empty.keys)
      } + [
        ("a device", MachineDescription.Device.fields.map(Key.init)),
        ("a reserved region", ReservedRegionEntry.fields.map(Key.init)),
      ]
  }

  package struct Key: Sendable {
    package let name: String
    package let values: String
    package let summary: String

    init<Root>(_ field: Field<Root>) {
      name = field.key
      values = field.values
      summary = field.summary
    }
  }

  private static func description(in text: String) throws(Mistake) -> MachineDescription {
    let root: Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      throw Mistake(error)
    }
    guard let root else { throw Mistake(nil, "there is no description in it") }
    var description = MachineDescription(units: [], devices: [])
    try root.read(MachineDescription.fields, of: "A machine", into: &description)
    do throws(MachineError) {
      try description.validate()
    } catch {
      throw Mistake(node(of: error.subject, in: root), error.description)
    }
    return description
  }

  /// Where a description that contradicts itself does so.
  private static func node(of subject: MachineError.Subject?, in root: Node) -> Node? {
    switch subject {
    case .unit(let index): root["units"]?.sequence?[index]
    case .device(let index): root["devices"]?.sequence?[index]
    case nil: root
    }
  }
}

/// A description that cannot be used: "FILE:LINE:COLUMN: reason".
package struct MachineFileError: Error, CustomStringConvertible {
  package let description: String

  /// Of a file that cannot be read as text.
  package init(_ name: String, _ reason: String) { description = "\(name): \(reason)" }

  init(_ name: String, _ mistake: Mistake) {
    let place = mistake.mark.map { "\(name):\($0.line):\($0.column)" } ?? name
    description = "\(place): \(mistake.reason)"
  }
}

extension Mistake {
  /// What the parser of YAML says.
  fileprivate init(_ error: any Error) {
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      self.init(mark, problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      self.init(context.mark, "'\(duplicates.joined(separator: "', '"))' is there twice")
    case .reader(let problem, _, _, _):
      self.init(mark: nil, problem)
    default:
      self.init(mark: nil, "\(error)")
    }
  }

  private init(_ mark: Mark, _ reason: String) { self.init(mark: mark, reason) }

  private init(mark: Mark?, _ reason: String) {
    self.mark = mark
    self.reason = reason
  }
}

extension MachineDescription {
  static var fields: [Field<MachineDescription>] {
    [
      .flag(
        "selftest", \.hasSelftest, "the iommufd has the kernel's test operations and mock devices"),
      .names(
        "extensions", \.extensions.enabled,
        "designs from the API's history that no kernel has; see docs/extensions.md"),
      .number(
        "pasid-quota", \.extensions.pasidQuota, 0...Extensions.largestPASIDQuota,
        "PASIDs that one process may have at a time, with the extension vfio-sva"),
      Field(
        key: "units", values: "a list of units", summary: "the IOMMUs",
        isRequired: true,
        read: { (node, root) throws(Mistake) in
          root.units = try node.elements(of: "units").read { (node) throws(Mistake) in
            try Unit(node)
          }
        },
        write: { .sequence(.init($0.units.map(\.node))) }),
      Field(
        key: "devices", values: "a list of devices",
        summary: "PCI functions; the first is vfio0", isRequired: true,
        read: { (node, root) throws(Mistake) in
          root.devices = try node.elements(of: "devices").read { (node) throws(Mistake) in
            try Device(node)
          }
        },
        write: { .sequence(.init($0.devices.map { Node($0, Device.fields) })) }),
    ]
  }
}

extension Node.Sequence {
  func read<Element>(
    _ element: (Node) throws(Mistake) -> Element
  ) throws(Mistake) -> [Element] {
    var result: [Element] = []
    for node in self { result.append(try element(node)) }
    return result
  }
}
