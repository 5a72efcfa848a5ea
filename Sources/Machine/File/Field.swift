// SPDX-License-Identifier: Apache-2.0

internal import Yams

/// One key of a YAML mapping: its name, its values, its meaning, and how its value is read into a
/// description and written from it. Reading, writing and the documentation of keys use the same
/// tables of fields.
struct Field<Root> {
  let key: String
  /// The values that the key takes, as text for users.
  let values: String
  /// The meaning of the key, as text for users, with the name of the register field that the value
  /// becomes.
  let summary: String
  var isRequired = false
  let read: (Node, inout Root) throws(FieldError) -> Void
  /// Returns `nil` when the key need not be written.
  let write: (Root) -> Node?

  /// Returns the field of `Whole` that reads and writes the part of `Whole` at `path`.
  func within<Whole>(_ path: WritableKeyPath<Whole, Root>) -> Field<Whole> {
    Field<Whole>(
      key: key, values: values, summary: summary, isRequired: isRequired,
      read: { (node, whole) throws(FieldError) in try read(node, &whole[keyPath: path]) },
      write: { write($0[keyPath: path]) })
  }

  var required: Field {
    var field = self
    field.isRequired = true
    return field
  }
}

/// An error in a description's text, with its place.
struct FieldError: Error {
  let mark: Mark?
  let reason: String

  init(_ node: Node?, _ reason: String) {
    mark = node?.mark
    self.reason = reason
  }
}

extension Field {
  static func flag(
    _ key: String, _ path: WritableKeyPath<Root, Bool>, _ summary: String
  ) -> Field {
    Field(
      key: key, values: "true, false", summary: summary,
      read: { (node, root) throws(FieldError) in
        guard let value = node.bool else {
          throw FieldError(node, "'\(key)' must be true or false")
        }
        root[keyPath: path] = value
      },
      write: { Node($0[keyPath: path] ? "true" : "false", Tag(.bool)) })
  }

  static func number<Value: FixedWidthInteger>(
    _ key: String, _ path: WritableKeyPath<Root, Value>, _ range: ClosedRange<Value>,
    _ summary: String
  ) -> Field {
    Field(
      key: key, values: "\(range.lowerBound) to \(range.upperBound)", summary: summary,
      read: { (node, root) throws(FieldError) in
        guard let value = node.int.flatMap(Value.init(exactly:)), range.contains(value) else {
          throw FieldError(
            node, "'\(key)' must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        root[keyPath: path] = value
      },
      write: { Node("\($0[keyPath: path])", Tag(.int)) })
  }

  /// A key whose value is a list of numbers from `allowed`.
  /// - Parameter canBeEmpty: Whether the list can have no number.
  static func numbers(
    _ key: String, _ path: WritableKeyPath<Root, Set<Int>>, of allowed: [Int],
    canBeEmpty: Bool = false, _ summary: String
  ) -> Field {
    let values = "a list of " + allowed.map(String.init).joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(FieldError) in
        var numbers: Set<Int> = []
        for element in try node.elements(of: key) {
          guard let value = element.int, allowed.contains(value) else {
            throw FieldError(element, "'\(key)' must be \(values)")
          }
          numbers.insert(value)
        }
        guard canBeEmpty || !numbers.isEmpty else {
          throw FieldError(node, "'\(key)' must have at least one number")
        }
        root[keyPath: path] = numbers
      },
      write: { root in
        .sequence(
          .init(
            root[keyPath: path].sorted().map { Node("\($0)", Tag(.int)) }, .implicit, .flow))
      })
  }

  /// A key whose value is one of `names`.
  static func choice<Value: Equatable>(
    _ key: String, _ path: WritableKeyPath<Root, Value>, _ names: KeyValuePairs<String, Value>,
    _ summary: String
  ) -> Field {
    let values = names.map(\.key).joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(FieldError) in
        guard let choice = names.first(where: { $0.key == node.string }) else {
          throw FieldError(node, "'\(key)' must be one of: \(values)")
        }
        root[keyPath: path] = choice.value
      },
      write: { root in
        names.first { $0.value == root[keyPath: path] }.map { Node($0.key) }
      })
  }

  /// A key whose value is a list of raw values of `Value`.
  static func names<Value: RawRepresentable<String> & CaseIterable & Hashable>(
    _ key: String, _ path: WritableKeyPath<Root, Set<Value>>, _ summary: String
  ) -> Field {
    let names = Value.allCases.map(\.rawValue)
    let values = "a list of " + names.joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(FieldError) in
        var chosen: Set<Value> = []
        for element in try node.elements(of: key) {
          guard let value = element.string.flatMap(Value.init(rawValue:)) else {
            throw FieldError(element, "'\(key)' must be \(values)")
          }
          chosen.insert(value)
        }
        root[keyPath: path] = chosen
      },
      write: { root in
        .sequence(
          .init(
            root[keyPath: path].map(\.rawValue).sorted().map { Node($0) }, .implicit, .flow))
      })
  }

  static func text(
    _ key: String, _ path: WritableKeyPath<Root, String>, _ summary: String
  ) -> Field {
    Field(
      key: key, values: "a name", summary: summary,
      read: { (node, root) throws(FieldError) in
        guard let value = node.string, !value.isEmpty else {
          throw FieldError(node, "'\(key)' must be a name")
        }
        root[keyPath: path] = value
      },
      write: { Node($0[keyPath: path]) })
  }
}

extension Node {
  /// Returns the elements of the list that is the value of `key`.
  func elements(of key: String) throws(FieldError) -> Node.Sequence {
    guard let sequence else { throw FieldError(self, "'\(key)' must be a list") }
    return sequence
  }

  /// Returns the pairs of a mapping that describes `subject`.
  func pairs(of subject: String) throws(FieldError) -> Node.Mapping {
    guard let mapping else {
      throw FieldError(self, "\(subject) must be a mapping of keys to values")
    }
    return mapping
  }

  /// Reads every pair of this mapping into `root`.
  /// - Parameter subject: What the mapping describes, as the beginning of a sentence.
  func read<Root>(
    _ fields: [Field<Root>], of subject: String, into root: inout Root
  ) throws(FieldError) {
    var read: Set<String> = []
    for (key, value) in try pairs(of: subject) {
      guard let field = fields.first(where: { $0.key == key.string }) else {
        throw FieldError(
          key,
          "\(subject) has no key '\(key.string ?? "?")'; its keys are "
            + fields.map { "'\($0.key)'" }.joined(separator: ", "))
      }
      try field.read(value, &root)
      read.insert(field.key)
    }
    for field in fields where field.isRequired && !read.contains(field.key) {
      throw FieldError(self, "\(subject) must have the key '\(field.key)': \(field.summary)")
    }
  }

  /// Makes a mapping with every field of `root`.
  init<Root>(_ root: Root, _ fields: [Field<Root>]) {
    self.init(
      fields.compactMap { field in field.write(root).map { (Node(field.key), $0) } })
  }
}
