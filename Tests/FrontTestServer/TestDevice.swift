// SPDX-License-Identifier: Apache-2.0

// The devices of the front-end tests (Tests/Clients/fronts). They use everything that a front end
// delivers: argument structs, pointers, descriptors in both directions, file offsets, queues,
// mappable regions.

internal import Synchronization
internal import SystemPackage
internal import UAPI

/// Counters of all open files of the process, by which a client checks that nothing is left open.
final class Totals: Sendable {
  static let shared = Totals()
  let lastID = Atomic<UInt32>(0)
  let files = Atomic<UInt32>(0)
  let openQueues = Atomic<UInt32>(0)
  let written = Atomic<UInt32>(0)
  /// The queues that are not released, by ID.
  let queues = Mutex<[UInt32: TestQueue]>([:])
}

struct TestDevice: CharacterDevice {
  enum Kind {
    /// Its files have a region that can be mapped, as an iommufd has.
    case main
    /// Its files have ``OffsetBytes`` to read and write, as a VFIO device has regions.
    case offsets
  }

  let name: String
  let kind: Kind

  func open(by client: any Client) throws(Errno) -> any OpenFile { TestFile(kind) }
}
