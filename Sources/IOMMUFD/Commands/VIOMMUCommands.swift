// SPDX-License-Identifier: Apache-2.0

// The commands that allocate vIOMMUs and the objects on them (iommufd: viommu.c, eventq.c).

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum VIOMMUCommands {
  // MARK: IOMMU_VIOMMU_ALLOC

  /// iommufd: iommufd_viommu_alloc_ioctl()
  static func allocate(_ command: inout UserCommand<iommu_viommu_alloc>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.flags == 0, arguments.type != IOMMU_VIOMMU_TYPE_DEFAULT.rawValue else {
      throw .notSupported
    }
    let (context, client) = (command.context, command.client)
    // The parent gets a user instead of the lock, because the driver reads and writes the client's
    // memory.
    let (id, device, parent) = try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(arguments.dev_id), as: BoundDevice.self)
      guard
        device.device.driver.supportsVirtualIOMMU(
          type: arguments.type, for: device.device.requesterID)
      else { throw Errno.notSupported }
      let parent = try context.objects.lookUp(ObjectID(arguments.hwpt_id), as: PagingHWPT.self)
      guard parent.flags.contains(.nestParent) else { throw Errno.invalidArgument }
      let id = try context.objects.reserve()
      parent.addUser()
      return (id, device, parent)
    }
    defer { context.lock.withLock { parent.dropUser() } }
    let data = UserData(
      type: arguments.type, address: arguments.data_uptr, length: UInt64(arguments.data_len),
      memory: client)
    let viommu: VIOMMU
    do throws(Errno) {
      viommu = try VIOMMU.make(
        id: id, type: arguments.type, for: device, on: parent,
        data: arguments.data_len > 0 ? data : nil)
    } catch {
      context.lock.withLock { context.objects.abort(id) }
      throw error
    }
    command.arguments.out_viommu_id = id.rawValue
    try command.respond(publishing: viommu)
  }

  // MARK: IOMMU_VDEVICE_ALLOC

  /// iommufd: iommufd_vdevice_alloc_ioctl()
  static func allocateDevice(
    _ command: inout UserCommand<iommu_vdevice_alloc>
  ) throws(Errno) {
    let arguments = command.arguments
    let context = command.context
    let device = try context.lock.withLock { () throws(Errno) in
      let viommu = try context.objects.lookUp(ObjectID(arguments.viommu_id), as: VIOMMU.self)
      let device = try context.objects.lookUp(ObjectID(arguments.dev_id), as: BoundDevice.self)
      return try VDevice.make(of: device, virtualID: arguments.virt_id, on: viommu)
    }
    command.arguments.out_vdevice_id = device.id.rawValue
    try command.respond(publishing: device)
  }

  // MARK: IOMMU_VEVENTQ_ALLOC

  private static let depthLimit: UInt32 = 1 << 19

  /// iommufd: iommufd_veventq_alloc()
  static func allocateEventQueue(
    _ command: inout UserCommand<iommu_veventq_alloc>
  ) throws(Errno) {
    let arguments = command.arguments
    guard arguments.flags == 0, arguments.__reserved == 0,
      arguments.type != IOMMU_VEVENTQ_TYPE_DEFAULT.rawValue
    else { throw .notSupported }
    guard (1...depthLimit).contains(arguments.veventq_depth) else { throw .invalidArgument }
    let context = command.context
    let queue = try context.lock.withLock { () throws(Errno) in
      let viommu = try context.objects.lookUp(ObjectID(arguments.viommu_id), as: VIOMMU.self)
      guard !viommu.host.hasQueue(type: arguments.type) else { throw Errno.fileExists }
      return VEventQueue(
        id: try context.objects.reserve(), type: arguments.type,
        depth: Int(arguments.veventq_depth), on: viommu)
    }
    command.arguments.out_veventq_id = queue.id.rawValue
    try command.respond(
      publishing: queue, installing: queue.makeFile(), number: \.out_veventq_fd)
  }

  // MARK: IOMMU_HW_QUEUE_ALLOC

  /// iommufd: iommufd_hw_queue_alloc_ioctl()
  static func allocateHardwareQueue(
    _ command: inout UserCommand<iommu_hw_queue_alloc>
  ) throws(Errno) {
    let arguments = command.arguments
    guard arguments.flags == 0, arguments.type != IOMMU_HW_QUEUE_TYPE_DEFAULT.rawValue else {
      throw .notSupported
    }
    guard arguments.length > 0 else { throw .invalidArgument }
    let (_, wraps) = arguments.nesting_parent_iova.addingReportingOverflow(arguments.length - 1)
    guard !wraps else { throw .overflow }
    let (context, client) = (command.context, command.client)
    let queue = try context.lock.withLock { () throws(Errno) in
      let viommu = try context.objects.lookUp(ObjectID(arguments.viommu_id), as: VIOMMU.self)
      // The pin of the queue's pages releases the lock.
      return try viommu.withUser { () throws(Errno) in
        try HWQueue.make(
          type: arguments.type, index: arguments.index, iova: IOVA(arguments.nesting_parent_iova),
          length: arguments.length, on: viommu, client: client)
      }
    }
    command.arguments.out_hw_queue_id = queue.id.rawValue
    try command.respond(publishing: queue)
  }
}
