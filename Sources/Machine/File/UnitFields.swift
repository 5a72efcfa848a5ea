// The keys of units. Their defaults are those of the unit's own configuration.

internal import IOMMU
internal import Yams

extension MachineDescription.Unit {
  /// The kinds of units, as a description names them.
  enum KindName: String, CaseIterable {
    case vtd

    /// A unit of this kind that is not described further.
    var empty: MachineDescription.Unit.Kind {
      switch self {
      case .vtd: .vtd(VTdUnit.Configuration())
      }
    }
  }

  /// What every unit has; the others depend on the kind.
  static var fields: [Field<MachineDescription.Unit>] {
    [
      .text("name", \.name, "what devices call it").required,
      Field(
        key: "kind", values: KindName.allCases.map(\.rawValue).joined(separator: ", "),
        summary: "whose architecture it is", isRequired: true,
        read: { (node, unit) throws(Mistake) in
          guard let kind = node.string.flatMap(KindName.init(rawValue:)) else {
            throw Mistake(
              node,
              "'kind' is one of: " + KindName.allCases.map(\.rawValue).joined(separator: ", "))
          }
          unit.kind = kind.empty
        },
        write: { Node($0.kind.name.rawValue) }),
    ]
  }

  /// The kind says which other keys there are, wherever in the mapping it stands.
  init(_ node: Node) throws(Mistake) {
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
    }
  }

  fileprivate mutating func read(_ node: Node, of subject: String) throws(Mistake) {
    switch self {
    case .vtd(var configuration):
      try node.read(VTdUnit.Configuration.fields, of: subject, into: &configuration)
      self = .vtd(configuration)
    }
  }

  fileprivate var pairs: [(Node, Node)] {
    let node =
      switch self {
      case .vtd(let configuration): Node(configuration, VTdUnit.Configuration.fields)
      }
    return node.mapping?.map { ($0.key, $0.value) } ?? []
  }

  var keys: [MachineFile.Key] {
    switch self {
    case .vtd: VTdUnit.Configuration.fields.map(MachineFile.Key.init)
    }
  }
}

extension VTdUnit.Configuration {
  fileprivate static var fields: [Field<VTdUnit.Configuration>] {
    VTdCapabilities.fields.map { $0.within(\.capabilities) }
      + IotlbGeometry.fields.map { $0.within(\.iotlb) } + [
        .number("context-cache-sets", \.contextCacheSets, 1...65536, "of 4 entries each"),
        .number("pasid-cache-sets", \.pasidCacheSets, 1...65536, "of 4 entries each"),
      ]
  }
}

extension IotlbGeometry {
  /// Sets are rounded down to a power of two.
  fileprivate static var fields: [Field<IotlbGeometry>] {
    [
      .number("iotlb-sets-4k", \.sets4K, 1...65536, "sets of the IOTLB for small pages"),
      .number("iotlb-sets-2m", \.sets2M, 1...65536, "sets for pages of 2 MiB and more"),
      .number("iotlb-sets-1g", \.sets1G, 1...65536, "sets for pages of 1 GiB and more"),
    ]
  }
}

extension VTdCapabilities {
  /// VT-d §11.4.2, §11.4.3
  fileprivate static var fields: [Field<VTdCapabilities>] {
    [
      .number(
        "address-width", \.maximumGuestAddressWidth, 39...57, "bits of a request's address (MGAW)"),
      .numbers(
        "second-stage-levels", \.secondStageLevels, of: [3, 4, 5],
        "levels of second-stage tables (SAGAW)"),
      .flag("pages-2m", \.has2MPages, "second-stage pages of 2 MiB (SSLPS)"),
      .flag("pages-1g", \.has1GPages, "second-stage pages of 1 GiB (SSLPS)"),
      .number("domain-bits", \.domainBits, 4...16, "log2 of the domains; even (ND)"),
      .number("fault-registers", \.faultRegisters, 1...256, "fault recording registers (NFR)"),
      .number(
        "maximum-address-mask", \.maximumAddressMask, 0...18,
        "log2 of the pages that one page-selective invalidation is for (MAMV)"),
      .flag("caching-mode", \.cachingMode, "not-present entries may be cached (CM)"),
      .flag("snoop-control", \.snoopControl, "tables can enforce coherent DMA (SC)"),
      .flag("pass-through", \.passThrough, "DMA without translation (PT)"),
      .number("pasid-bits", \.pasidBits, 0...20, "log2 of the PASIDs; 0: none (PASID, PSS)"),
      .flag(
        "second-stage-dirty", \.secondStageFlags,
        "accessed and dirty flags in second-stage tables (SSADS)"),
    ]
  }
}
