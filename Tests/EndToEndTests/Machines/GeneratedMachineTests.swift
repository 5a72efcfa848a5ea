// SPDX-License-Identifier: Apache-2.0

import Glibc
import Machine
import SystemPackage
import TestSupport
import Testing

/// A description is refused with the key that is wrong, or every device of the machine works as the
/// kernel's driver for its unit says.
@Suite("generated machines")
struct GeneratedMachineTests {
  /// The number of machines of each of 8 cases. The environment variable MACHINES changes it, and
  /// MACHINE_SEED begins with another machine.
  private static let count = getenv("MACHINES").flatMap { UInt64(String(cString: $0)) } ?? 200

  @Test("a description is refused by key, or its devices do DMA", arguments: 0..<8 as Range<UInt64>)
  func everyMachine(part: UInt64) throws {
    let start = getenv("MACHINE_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1
    var refused = 0
    for number in 0..<Self.count {
      let seed = start + part * 1_000_000 + number
      var generator = MachineGenerator(seed: seed)
      let text = generator.makeText()
      let result = check(text)
      if case .refused = result { refused += 1 }
      guard case .wrong(let problems) = result else { continue }
      Issue.record("MACHINE_SEED=\(seed): \(problems.joined(separator: "\n"))\n\(text)")
      return
    }
    #expect(refused < Self.count * 3 / 4, "\(refused) of \(Self.count) are refused")
  }

  private enum Result {
    case works
    case refused
    case wrong([String])
  }

  private func check(_ text: String) -> Result {
    do {
      let description = try MachineFile.read(text, named: "m")
      let fixture = try VFIOFixture(own: description)
      defer { fixture.client.close(fixture.iommufd) }
      var problems: [String] = []
      for index in description.devices.indices {
        problems += try ExercisedDevice(index, of: fixture).problems()
      }
      problems += try sharingProblems(fixture)
      return problems.isEmpty ? .works : .wrong(problems)
    } catch let error as MachineFileError {
      if getenv("MACHINES") != nil { print("refused \(error)") }
      return named(error.description) ? .refused : .wrong(["no key in: \(error)"])
    } catch let error as MachineError {
      return named(error.description) ? .refused : .wrong(["no key in: \(error)"])
    } catch {
      return .wrong(["an error without a key: \(error)"])
    }
  }

  /// Every two devices of different groups share domains, in both orders.
  private func sharingProblems(_ fixture: VFIOFixture) throws -> [String] {
    let devices = fixture.machine.description.devices
    var problems: [String] = []
    for first in devices.indices {
      for second in devices.indices where devices[first].group != devices[second].group {
        problems += try ExercisedPair(first, second, of: fixture).problems()
      }
    }
    return problems
  }

  /// Whether the reason of a refusal names a key of the description.
  private func named(_ reason: String) -> Bool {
    reason.split { !($0.isLetter || $0.isNumber || $0 == "-") }
      .contains { MachineGenerator.allKeys.contains(String($0)) }
  }
}
