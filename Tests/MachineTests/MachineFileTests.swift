// SPDX-License-Identifier: Apache-2.0

import IOMMU
import IOMMUFD
import Testing

@testable import Machine

@Suite("Machine descriptions as text")
struct MachineFileTests {
  private func read(_ text: String) throws -> MachineDescription {
    try MachineFile.read(text, named: "m.yaml")
  }

  @Test("a written description is read back without a loss")
  func roundTrip() throws {
    var description = MachineDescription.builtIn
    description.hasSelftest = true
    description.extensions = Extensions([.vfioSVA, .vtdInvalidationErrors])
    description.extensions.pasidQuota = 7
    description.devices[1].reservedRegions = [
      ReservedRegion(range: 0xa000_0000...0xa000_ffff, kind: .directRelaxable),
      ReservedRegion(range: 0xb000_0000...0xb000_0fff, kind: .msi),
    ]
    description.devices[0].hasATS = true
    let text = try MachineFile.write(description)
    let again = try read(text)
    #expect(try MachineFile.write(again) == text)
    #expect(again.devices[1].reservedRegions == description.devices[1].reservedRegions)
    #expect(again.devices.map(\.address) == description.devices.map(\.address))
    #expect(again.devices[0].hasATS)
    #expect(again.hasSelftest)
    #expect(again.extensions == description.extensions)
  }

  /// Keys of the built-in machine that other keys require. A description with one of them false
  /// contradicts itself.
  private static let required: Set<Substring> = [
    "second-stage", "first-stage", "device-tlbs", "ats", "guest-translation",
    "access-flag-updates",
  ]

  @Test("every key changes its own property and no other")
  func keysAreDistinct() throws {
    let text = try MachineFile.write(.builtIn)
    for line in text.split(separator: "\n") where line.hasSuffix(": true") {
      let changed = text.replacing(line, with: line.dropLast(4) + "false", maxReplacements: 1)
      let key = line.drop { $0 == " " || $0 == "-" }.prefix { $0 != ":" }
      do {
        let written = try MachineFile.write(try read(changed))
        #expect(written == changed, "\(line)")
      } catch {
        #expect(Self.required.contains(key), "\(line): \(error)")
      }
    }
  }

  @Test("keys that are left out have their default")
  func defaults() throws {
    let description = try read(
      """
      units: [{kind: vtd, name: u, pasid-bits: 8}]
      devices: [{address: "01:00.0", model: pcie-ats-testdev, unit: u, group: 7}]
      """)
    guard case .vtd(let configuration) = description.units[0].kind else {
      Issue.record("not a VT-d unit")
      return
    }
    var expected = VTdUnit.Configuration()
    expected.capabilities.pasidBits = 8
    #expect(configuration == expected)
    #expect(description.devices[0].group == 7)
    #expect(!description.hasSelftest)
    #expect(description.extensions == Extensions())
    #expect(description.extensions.pasidQuota == 1000)
  }

  @Test(
    "a description that hardware can have is accepted",
    arguments: [
      // First-stage tables only: SAGAW is 0.
      "{kind: vtd, name: u, first-stage: true, second-stage: false, second-stage-levels: []}",
      // Requests of 57 bits, but tables that translate 48.
      "{kind: vtd, name: u, address-width: 57}",
      "{kind: smmuv3, name: u, granules: [16]}",
      "{kind: smmuv3, name: u, ats: true}", "{kind: smmuv3, name: u, stall-model: stall}",
      "{kind: smmuv3, name: u, stream-bits: 32}", "{kind: smmuv3, name: u, substream-bits: 4}",
      "{kind: amdvi, name: u, pasid-bits: 1}", "{kind: vtd, name: u, pasid-bits: 0}",
    ])
  func accepted(unit: String) throws {
    _ = try read("units: [\(unit)]\ndevices: [{\(Self.device), pasid-bits: 20}]")
  }

  /// A text that is refused, and the whole error.
  struct Refusal: Sendable, CustomTestStringConvertible {
    let text: String
    let error: String
    var testDescription: String { error }

    init(_ error: String, _ text: String) {
      self.text = text
      self.error = error
    }
  }

  private static let device = "address: '01:00.0', model: pcie-ats-testdev, unit: u, group: 1"
  private static let refusals = [
    Refusal("m.yaml: the text has no description", ""),
    Refusal("m.yaml:1:1: A machine must be a mapping of keys to values", "- 1"),
    Refusal("m.yaml:1:1: A machine must have the key 'units': the IOMMU units", "devices: []"),
    Refusal("m.yaml:1:8: 'units' must be a list", "units: 5\ndevices: []"),
    Refusal(
      "m.yaml:2:1: A machine has no key 'unit'; its keys are 'selftest', 'extensions', "
        + "'pasid-quota', 'units', 'devices'",
      "units: []\nunit: []"),
    Refusal(
      "m.yaml:1:24: 'extensions' must be a list of vtd-invalidation-errors, vfio-sva, "
        + "register-calls",
      "extensions: [vfio-sva, sva]\nunits: []\ndevices: []"),
    Refusal(
      "m.yaml:1:14: 'pasid-quota' must be a number from 0 to 1048575",
      "pasid-quota: 1048576\nunits: []\ndevices: []"),
    Refusal("m.yaml:1:11: 'selftest' must be true or false", "selftest: 3\nunits: []\ndevices: []"),
    Refusal(
      "m.yaml:1:10: A unit must have the key 'kind': the architecture of the unit",
      "units: [ {name: u}]\ndevices: []"
    ),
    Refusal(
      "m.yaml:1:33: 'pasid-bits' must be a number from 0 to 20",
      "units: [{kind: vtd, pasid-bits: 21, name: u}]\ndevices: []"),
    Refusal(
      "m.yaml:1:43: 'second-stage-levels' must be a list of 3, 4, 5",
      "units: [{kind: vtd, second-stage-levels: [2], name: u}]\ndevices: []"),
    Refusal(
      "m.yaml:1:9: unit 'u': 'domain-bits' must be even, because CAP.ND has no odd value",
      "units: [{kind: vtd, name: u, domain-bits: 5}]\ndevices: []"),
    Refusal(
      "m.yaml:3:3: unit 'u': two units have this name",
      "units:\n- {kind: vtd, name: u}\n- {kind: vtd, name: u}\ndevices: []"),
    Refusal(
      "m.yaml:2:11: device 0000:01:00.0: there is no unit 'u'",
      "units: []\ndevices: [{\(device)}]"),
    Refusal(
      "m.yaml:3:3: device 0000:01:00.0: 'page-requests' requires 'ats'",
      "units: [{kind: vtd, name: u}]\ndevices:\n- {\(device), page-requests: true}"),
    Refusal(
      "m.yaml:3:3: device 0000:01:00.0: 'ats' and 'stalls' exclude each other, because unit 'u' "
        + "has 'ats'",
      "units: [{kind: smmuv3, name: u, ats: true}]\ndevices:\n"
        + "- {\(device), ats: true, stalls: true}"),
    Refusal(
      "m.yaml:3:3: device 0000:01:00.0: 'ats' requires that the transactions of the device do not "
        + "stall, but unit 'u' has the 'stall-model' stall",
      "units: [{kind: smmuv3, name: u, ats: true, stall-model: stall}]\ndevices:\n"
        + "- {\(device), ats: true}"),
    Refusal(
      "m.yaml:3:3: device 0000:01:00.0: 'reserved-regions' of kind msi exclude a unit of kind "
        + "smmuv3, whose driver chooses the MSI window",
      "units: [{kind: smmuv3, name: u}]\ndevices:\n"
        + "- {\(device), reserved-regions: [{range: 0x1000-0x1fff, kind: msi}]}"),
    Refusal(
      "m.yaml:4:3: device 0000:02:00.0: 'group' 1 has devices behind unit 'u' and behind unit 'v'",
      "units: [{kind: vtd, name: u}, {kind: vtd, name: v}]\ndevices:\n- {\(device)}\n"
        + "- {address: '02:00.0', model: pcie-ats-testdev, unit: v, group: 1}"),
    Refusal(
      "m.yaml:1:9: unit 'u': 'second-stage-levels' must have 4, because Linux uses a unit with "
        + "'first-stage' only if both stages can have the same levels",
      "units: [{kind: vtd, name: u, first-stage: true, second-stage-levels: [3, 5]}]\ndevices: []"),
    Refusal(
      "m.yaml:1:9: unit 'u': 'second-stage' requires at least one number in 'second-stage-levels'",
      "units: [{kind: vtd, name: u, second-stage-levels: []}]\ndevices: []"),
    Refusal(
      "m.yaml:1:9: unit 'u': 'stream-bits' is 21, but a stream table without 'two-level-streams' "
        + "has at most 20 bits",
      "units: [{kind: smmuv3, name: u, stream-bits: 21, two-level-streams: false}]\ndevices: []"),
    Refusal(
      "m.yaml:1:53: 'command-queue-bits' must be a number from 7 to 19",
      "units: [{kind: smmuv3, name: u, command-queue-bits: 6}]\ndevices: []"),
    Refusal(
      "m.yaml:2:21: 'address' must be a PCI address such as 0000:01:00.0",
      "units: [{kind: vtd, name: u}]\ndevices: [{address: 01:20.0}]"),
  ]

  @Test("an error has the file, the line, the column and the broken rule", arguments: refusals)
  func refused(_ refusal: Refusal) {
    let error = #expect(throws: MachineFileError.self) { try read(refusal.text) }
    #expect(error?.description == refusal.error)
  }

  @Test("errors of the YAML parser have a line")
  func notYAML() {
    let broken = #expect(throws: MachineFileError.self) { try read("units: [\ndevices: }") }
    #expect(broken?.description.hasPrefix("m.yaml:2:") == true, "\(String(describing: broken))")
    let twice = #expect(throws: MachineFileError.self) { try read("units: []\nunits: []") }
    #expect(twice?.description.hasPrefix("m.yaml:") == true, "\(String(describing: twice))")
    #expect(twice?.description.contains("'units'") == true)
  }

  @Test("a reserved region has whole pages in ascending order and overlaps no other")
  func reservedRegions() throws {
    func text(_ regions: String) -> String {
      "units: [{kind: vtd, name: u}]\ndevices:\n- {\(Self.device), reserved-regions: [\(regions)]}"
    }
    for range in ["0x1000-0x1ffe", "0x1800-0x1fff", "0x3000-0x1fff", "4096-8191", "0x1000", "x"] {
      #expect(throws: MachineFileError.self) {
        try read(text("{range: \(range), kind: reserved}"))
      }
    }
    #expect(throws: MachineFileError.self) {
      try read(
        text("{range: 0x1000-0x2fff, kind: reserved}, {range: 0x2000-0x3fff, kind: direct}"))
    }
    let description = try read(text("{range: 0x1000-0x1fff, kind: direct}"))
    #expect(
      description.devices[0].reservedRegions
        == [ReservedRegion(range: 0x1000...0x1fff, kind: .direct)])
  }

  @Test("every key has a summary, and the keys of a mapping have different names")
  func keys() {
    for (subject, keys) in MachineFile.keys {
      #expect(Set(keys.map(\.name)).count == keys.count, "\(subject)")
      #expect(keys.allSatisfy { !$0.summary.isEmpty && !$0.values.isEmpty }, "\(subject)")
    }
  }
}
