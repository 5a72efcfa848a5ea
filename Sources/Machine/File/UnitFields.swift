// SPDX-License-Identifier: Apache-2.0

// The keys of a unit. A key that is left out has the default of the unit's configuration type.

internal import IOMMU
internal import IOMMUFD
internal import Yams

extension MachineDescription.Unit {
  /// The values of the key `kind`.
  enum KindName: String, CaseIterable {
    case vtd
    case smmuv3
    case amdvi

    /// A unit of this kind with the defaults of all other keys.
    var defaultKind: MachineDescription.Unit.Kind {
      switch self {
      case .vtd: .vtd(VTdUnit.Configuration())
      case .smmuv3: .smmuv3(SMMUv3Unit.Configuration())
      case .amdvi: .amdvi(AMDViDriver.Configuration())
      }
    }
  }

  /// The keys of every unit. The other keys depend on the kind.
  static var fields: [Field<MachineDescription.Unit>] {
    [
      .text("name", \.name, "the name by which devices refer to the unit").required,
      Field(
        key: "kind", values: KindName.allCases.map(\.rawValue).joined(separator: ", "),
        summary: "the architecture of the unit", isRequired: true,
        read: { (node, unit) throws(FieldError) in
          guard let kind = node.string.flatMap(KindName.init(rawValue:)) else {
            throw FieldError(
              node,
              "'kind' is one of: " + KindName.allCases.map(\.rawValue).joined(separator: ", "))
          }
          unit.kind = kind.defaultKind
        },
        write: { Node($0.kind.name.rawValue) }),
    ]
  }

  /// Reads `name` and `kind` first, wherever in the mapping they are, because the kind determines
  /// the other keys.
  init(_ node: Node) throws(FieldError) {
    let common = Self.fields
    let keys = Set(common.map(\.key))
    let pairs = try node.pairs(of: "A unit").map { ($0.key, $0.value) }
    self.init(name: "", kind: .vtd(VTdUnit.Configuration()))
    try Node.mapping(
      .init(pairs.filter { keys.contains($0.0.string ?? "") }, .implicit, .any, node.mark)
    ).read(common, of: "A unit", into: &self)
    try kind.read(
      .mapping(
        .init(pairs.filter { !keys.contains($0.0.string ?? "") }, .implicit, .any, node.mark)),
      of: "Unit '\(name)'")
  }

  var node: Node {
    let common = Node(self, Self.fields).mapping ?? [:]
    return .mapping(.init(common.map { ($0.key, $0.value) } + kind.pairs))
  }
}

extension MachineDescription.Unit.Kind {
  var name: MachineDescription.Unit.KindName {
    switch self {
    case .vtd: .vtd
    case .smmuv3: .smmuv3
    case .amdvi: .amdvi
    }
  }

  fileprivate mutating func read(_ node: Node, of subject: String) throws(FieldError) {
    switch self {
    case .vtd(var configuration):
      try node.read(VTdUnit.Configuration.fields, of: subject, into: &configuration)
      self = .vtd(configuration)
    case .smmuv3(var configuration):
      try node.read(SMMUv3Unit.Configuration.fields, of: subject, into: &configuration)
      self = .smmuv3(configuration)
    case .amdvi(var configuration):
      try node.read(AMDViDriver.Configuration.fields, of: subject, into: &configuration)
      self = .amdvi(configuration)
    }
  }

  fileprivate var pairs: [(Node, Node)] {
    let node =
      switch self {
      case .vtd(let configuration): Node(configuration, VTdUnit.Configuration.fields)
      case .smmuv3(let configuration): Node(configuration, SMMUv3Unit.Configuration.fields)
      case .amdvi(let configuration): Node(configuration, AMDViDriver.Configuration.fields)
      }
    return node.mapping?.map { ($0.key, $0.value) } ?? []
  }

  var keys: [MachineFile.Key] {
    switch self {
    case .vtd: VTdUnit.Configuration.fields.map(MachineFile.Key.init)
    case .smmuv3: SMMUv3Unit.Configuration.fields.map(MachineFile.Key.init)
    case .amdvi: AMDViDriver.Configuration.fields.map(MachineFile.Key.init)
    }
  }
}

extension IOTLBGeometry {
  /// The number of sets is rounded down to a power of two.
  static var fields: [Field<IOTLBGeometry>] {
    [
      .number("iotlb-sets-4k", \.sets4K, 1...65536, "sets of the IOTLB for 4 KiB pages"),
      .number(
        "iotlb-sets-2m", \.sets2M, 1...65536, "sets of the IOTLB for pages of 2 MiB and more"),
      .number(
        "iotlb-sets-1g", \.sets1G, 1...65536, "sets of the IOTLB for pages of 1 GiB and more"),
    ]
  }
}
