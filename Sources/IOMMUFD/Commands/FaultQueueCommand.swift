// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// IOMMU_FAULT_QUEUE_ALLOC.
enum FaultQueueCommand {
  /// iommufd: iommufd_fault_alloc()
  static func allocate(_ command: inout UserCommand<iommu_fault_alloc>) throws(Errno) {
    guard command.arguments.flags == 0 else { throw .notSupported }
    let context = command.context
    let queue = try context.lock.withLock { () throws(Errno) in
      FaultQueue(id: try context.objects.reserve(), in: context)
    }
    command.arguments.out_fault_id = queue.id.rawValue
    try command.respond(
      publishing: queue, installing: queue.makeFile(), number: \.out_fault_fd)
  }
}
