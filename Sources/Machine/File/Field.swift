// One key of a description's mapping: what it is called, which values it takes, what it means, and how
// the value gets into a description and out of it. Reading, writing and documentation all come from
// the same tables of fields.

internal import Yams

struct Field<Root> {
  let key: String
  /// The values it takes, for people.
  let values: String
  /// What it means, for people; with the register field it becomes, if it does.
  let summary: String
  var isRequired = false
  let read: (Node, inout Root) throws(Mistake) -> Void
  /// Nil: there is nothing to write.
  let write: (Root) -> Node?

  /// Written and read also on its own, as a part of `Whole`.
  func within<Whole>(_ path: WritableKeyPath<Whole, Root>) -> Field<Whole> {
    Field<Whole>(
      key: key, values: values, summary: summary, isRequired: isRequired,
      read: { (node, whole) throws(Mistake) in try read(node, &whole[keyPath: path]) },
      write: { write($0[keyPath: path]) })
  }

  var required: Field {
    var field = self
    field.isRequired = true
    return field
  }
}

/// What is wrong with a description's text, and where.
struct Mistake: Error {
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
      read: { (node, root) throws(Mistake) in
        guard let value = node.bool else { throw Mistake(node, "'\(key)' is true or false") }
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
      read: { (node, root) throws(Mistake) in
        guard let value = node.int.flatMap(Value.init(exactly:)), range.contains(value) else {
          throw Mistake(
            node, "'\(key)' is a number from \(range.lowerBound) to \(range.upperBound)")
        }
        root[keyPath: path] = value
      },
      write: { Node("\($0[keyPath: path])", Tag(.int)) })
  }

  /// A list of numbers, each one of `allowed`.
  static func numbers(
    _ key: String, _ path: WritableKeyPath<Root, Set<Int>>, of allowed: [Int], _ summary: String
  ) -> Field {
    let values = "a list of " + allowed.map(String.init).joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(Mistake) in
        var numbers: Set<Int> = []
        for element in try node.elements(of: key) {
          guard let value = element.int, allowed.contains(value) else {
            throw Mistake(element, "'\(key)' is \(values)")
          }
          numbers.insert(value)
        }
        guard !numbers.isEmpty else { throw Mistake(node, "'\(key)' names at least one") }
        root[keyPath: path] = numbers
      },
      write: { root in
        .sequence(
          .init(
            root[keyPath: path].sorted().map { Node("\($0)", Tag(.int)) }, .implicit, .flow))
      })
  }

  /// One of `names`, each with what it stands for.
  static func choice<Value: Equatable>(
    _ key: String, _ path: WritableKeyPath<Root, Value>, _ names: KeyValuePairs<String, Value>,
    _ summary: String
  ) -> Field {
    let values = names.map(\.key).joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(Mistake) in
        guard let choice = names.first(where: { $0.key == node.string }) else {
          throw Mistake(node, "'\(key)' is one of: \(values)")
        }
        root[keyPath: path] = choice.value
      },
      write: { root in
        names.first { $0.value == root[keyPath: path] }.map { Node($0.key) }
      })
  }

  /// A list of any of the names of `Value`'s cases.
  static func names<Value: RawRepresentable<String> & CaseIterable & Hashable>(
    _ key: String, _ path: WritableKeyPath<Root, Set<Value>>, _ summary: String
  ) -> Field {
    let names = Value.allCases.map(\.rawValue)
    let values = "a list of " + names.joined(separator: ", ")
    return Field(
      key: key, values: values, summary: summary,
      read: { (node, root) throws(Mistake) in
        var chosen: Set<Value> = []
        for element in try node.elements(of: key) {
          guard let value = element.string.flatMap(Value.init(rawValue:)) else {
            throw Mistake(element, "'\(key)' is \(values)")
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
      read: { (node, root) throws(Mistake) in
        guard let value = node.string, !value.isEmpty else {
          throw Mistake(node, "'\(key)' is a name")
        }
        root[keyPath: path] = value
      },
      write: { Node($0[keyPath: path]) })
  }
}

extension Node {
  /// The elements of the list that is the value of `key`.
  func elements(of key: String) throws(Mistake) -> Node.Sequence {
    guard let sequence else { throw Mistake(self, "'\(key)' is a list") }
    return sequence
  }

  /// The pairs of a mapping that describes `subject`.
  func pairs(of subject: String) throws(Mistake) -> Node.Mapping {
    guard let mapping else { throw Mistake(self, "\(subject) is a mapping: keys with values") }
    return mapping
  }

  /// Reads every pair of this mapping into `root`.
  /// - Parameter subject: what is described, as it begins a sentence.
  func read<Root>(
    _ fields: [Field<Root>], of subject: String, into root: inout Root
  ) throws(Mistake) {
    var read: Set<String> = []
    for (key, value) in try pairs(of: subject) {
      guard let field = fields.first(where: { $0.key == key.string }) else {
        throw Mistake(
          key,
          "\(subject) has no key '\(key.string ?? "?")', but "
            + fields.map { "'\($0.key)'" }.joined(separator: ", "))
      }
      try field.read(value, &root)
      read.insert(field.key)
    }
    for field in fields where field.isRequired && !read.contains(field.key) {
      throw Mistake(self, "\(subject) needs '\(field.key)': \(field.summary)")
    }
  }

  /// A mapping with every field of `root` that has something to say.
  init<Root>(_ root: Root, _ fields: [Field<Root>]) {
    self.init(
      fields.compactMap { field in field.write(root).map { (Node(field.key), $0) } })
  }
}
