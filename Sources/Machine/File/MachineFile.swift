// SPDX-License-Identifier: Apache-2.0

internal import IOMMUFD
internal import Yams

/// Machine descriptions as YAML text. docs/machine-description.5.md explains the text to users.
/// UnitFields.swift and DeviceFields.swift have the tables of keys.
package enum MachineFile {
  /// Reads and validates a description.
  /// - Parameter name: The name of the text in errors, such as the path of a file.
  package static func read(
    _ text: String, named name: String
  ) throws(MachineFileError) -> MachineDescription {
    do throws(FieldError) {
      return try description(in: text)
    } catch {
      throw MachineFileError(name, error)
    }
  }

  /// Returns the text of a description, with every key.
  package static func write(_ description: MachineDescription) throws -> String {
    try Yams.serialize(node: Node(description, MachineDescription.fields))
  }

  /// Every key, grouped by the mapping that it belongs to.
  package static var keys: [(subject: String, keys: [Key])] {
    [
      ("a machine", MachineDescription.fields.map(Key.init)),
      ("a unit", MachineDescription.Unit.fields.map(Key.init)),
    ]
      + MachineDescription.Unit.KindName.allCases.map {
        ("a unit of kind \($0.rawValue)", $0.defaultKind.keys)
      } + [
        ("a device", MachineDescription.Device.fields.map(Key.init)),
        ("a reserved region", ReservedRegionEntry.fields.map(Key.init)),
      ]
  }

  /// The documentation of one key.
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

  private static func description(in text: String) throws(FieldError) -> MachineDescription {
    let root: Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      throw FieldError(error)
    }
    guard let root else { throw FieldError(nil, "the text has no description") }
    var description = MachineDescription(units: [], devices: [])
    try root.read(MachineDescription.fields, of: "A machine", into: &description)
    do throws(MachineError) {
      try description.validate()
    } catch {
      throw FieldError(node(of: error.subject, in: root), error.description)
    }
    return description
  }

  /// Returns the node of the unit or device that an error is about.
  private static func node(of subject: MachineError.Subject?, in root: Node) -> Node? {
    switch subject {
    case .unit(let index): root["units"]?.sequence?[index]
    case .device(let index): root["devices"]?.sequence?[index]
    case nil: root
    }
  }
}

/// An error in a description's text, as "FILE:LINE:COLUMN: reason".
package struct MachineFileError: Error, CustomStringConvertible {
  package let description: String

  /// Makes an error without a place in the text.
  package init(_ name: String, _ reason: String) { description = "\(name): \(reason)" }

  init(_ name: String, _ error: FieldError) {
    let place = error.mark.map { "\(name):\($0.line):\($0.column)" } ?? name
    description = "\(place): \(error.reason)"
  }
}

extension FieldError {
  /// Converts an error of the YAML parser.
  fileprivate init(_ error: any Error) {
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      self.init(mark, problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      self.init(context.mark, "the key '\(duplicates.joined(separator: "', '"))' is there twice")
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
        "selftest", \.hasSelftest, "the iommufd has IOMMU_TEST_CMD and mock devices"),
      .names(
        "extensions", \.extensions.enabled,
        "interfaces that were proposed and never merged; see docs/extensions.md"),
      .number(
        "pasid-quota", \.extensions.pasidQuota, 0...Extensions.largestPASIDQuota,
        "PASIDs of one process at a time, with the extension vfio-sva"),
      Field(
        key: "units", values: "a list of units", summary: "the IOMMU units",
        isRequired: true,
        read: { (node, root) throws(FieldError) in
          root.units = try node.elements(of: "units").read { (node) throws(FieldError) in
            try Unit(node)
          }
        },
        write: { .sequence(.init($0.units.map(\.node))) }),
      Field(
        key: "devices", values: "a list of devices",
        summary: "PCI functions; the first is vfio0", isRequired: true,
        read: { (node, root) throws(FieldError) in
          root.devices = try node.elements(of: "devices").read { (node) throws(FieldError) in
            try Device(node)
          }
        },
        write: { .sequence(.init($0.devices.map { Node($0, Device.fields) })) }),
    ]
  }
}

extension Node.Sequence {
  func read<Element>(
    _ element: (Node) throws(FieldError) -> Element
  ) throws(FieldError) -> [Element] {
    var result: [Element] = []
    for node in self { result.append(try element(node)) }
    return result
  }
}
