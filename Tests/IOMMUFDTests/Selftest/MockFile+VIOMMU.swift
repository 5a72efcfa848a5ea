// SPDX-License-Identifier: Apache-2.0

// Calls for vIOMMUs of mock devices and for the descriptors of queues.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import UAPI

@testable import IOMMUFD

extension MockFile {
  static let viommuType = UInt32(IOMMU_VIOMMU_TYPE_SELFTEST)
  static let eventType = UInt32(IOMMU_VEVENTQ_TYPE_SELFTEST)
  static let queueType = UInt32(IOMMU_HW_QUEUE_TYPE_SELFTEST)

  // MARK: Queues

  func makeFaultQueue(flags: UInt32 = 0) -> Result<(id: UInt32, number: Int32), Errno> {
    var command = iommu_fault_alloc(size: 16, flags: flags, out_fault_id: 0, out_fault_fd: 0)
    if let error = file.call(.faultQueueAlloc, &command) { return .failure(error) }
    return .success((command.out_fault_id, Int32(bitPattern: command.out_fault_fd)))
  }

  func makeEventQueue(
    on viommu: UInt32, depth: UInt32, type: UInt32 = Self.eventType, flags: UInt32 = 0
  ) -> Result<(id: UInt32, number: Int32), Errno> {
    var command = iommu_veventq_alloc()
    command.size = UInt32(MemoryLayout<iommu_veventq_alloc>.size)
    command.flags = flags
    command.viommu_id = viommu
    command.type = type
    command.veventq_depth = depth
    if let error = file.call(.veventqAlloc, &command) { return .failure(error) }
    return .success((command.out_veventq_id, Int32(bitPattern: command.out_veventq_fd)))
  }

  /// read(2) of `count` bytes, as words.
  func read(_ number: Int32, _ count: Int) -> Result<[UInt32], Errno> {
    guard let open = file.client.file(number) else { return .failure(.badFileDescriptor) }
    let memory = TestMemory()
    let buffer = UserBuffer(memory: file.client, address: memory.address, count: count)
    do throws(Errno) {
      let count = try open.read(into: buffer, at: 0)
      return .success((0..<count / 4).map { memory.load(UInt32.self, at: $0 * 4) })
    } catch {
      return .failure(error)
    }
  }

  func write(_ number: Int32, _ words: [UInt32], count: Int? = nil) -> Result<Int, Errno> {
    guard let open = file.client.file(number) else { return .failure(.badFileDescriptor) }
    let memory = TestMemory()
    for (index, word) in words.enumerated() { memory.store(word, at: index * 4) }
    let buffer = UserBuffer(
      memory: file.client, address: memory.address, count: count ?? words.count * 4)
    do throws(Errno) {
      return .success(try open.write(from: buffer, at: 0))
    } catch {
      return .failure(error)
    }
  }

  func readiness(_ number: Int32) -> Readiness? { file.client.file(number)?.readiness() }

  // MARK: Page requests and events of devices

  func requestPage(_ device: UInt32, at address: UInt64, pasid: UInt32 = 0) -> Errno? {
    test(IOMMU_TEST_OP_TRIGGER_IOPF) {
      $0.trigger_iopf.dev_id = device
      $0.trigger_iopf.pasid = pasid
      $0.trigger_iopf.grpid = 2
      $0.trigger_iopf.perm = 3
      $0.trigger_iopf.addr = address
    }.error
  }

  func reportEvent(_ device: UInt32) -> Errno? {
    test(IOMMU_TEST_OP_TRIGGER_VEVENT) { $0.trigger_vevent.dev_id = device }.error
  }

  // MARK: vIOMMUs

  func makeVIOMMU(
    for device: UInt32, on parent: UInt32, data: TestMemory? = nil, length: UInt32 = 24
  ) -> Result<UInt32, Errno> {
    var command = iommu_viommu_alloc()
    command.size = UInt32(MemoryLayout<iommu_viommu_alloc>.size)
    command.type = Self.viommuType
    command.dev_id = device
    command.hwpt_id = parent
    command.data_len = data == nil ? 0 : length
    command.data_uptr = data?.address ?? 0
    if let error = file.call(.viommuAlloc, &command) { return .failure(error) }
    return .success(command.out_viommu_id)
  }

  func makeVirtualDevice(
    _ device: UInt32, on viommu: UInt32, _ virtualID: UInt64
  ) -> Result<UInt32, Errno> {
    var command = iommu_vdevice_alloc(
      size: 24, viommu_id: viommu, dev_id: device, out_vdevice_id: 0, virt_id: virtualID)
    if let error = file.call(.vdeviceAlloc, &command) { return .failure(error) }
    return .success(command.out_vdevice_id)
  }

  func makeHardwareQueue(
    on viommu: UInt32, index: UInt32, at iova: UInt64, length: UInt64
  ) -> Result<UInt32, Errno> {
    var command = iommu_hw_queue_alloc()
    command.size = UInt32(MemoryLayout<iommu_hw_queue_alloc>.size)
    command.viommu_id = viommu
    command.type = Self.queueType
    command.index = index
    command.nesting_parent_iova = iova
    command.length = length
    if let error = file.call(.hardwareQueueAlloc, &command) { return .failure(error) }
    return .success(command.out_hw_queue_id)
  }

  func unmap(_ ioas: UInt32, at iova: UInt64, length: UInt64) -> Errno? {
    var command = iommu_ioas_unmap(size: 24, ioas_id: ioas, iova: iova, length: length)
    return file.call(.ioasUnmap, &command)
  }
}
