// SPDX-License-Identifier: Apache-2.0

// The fault logs of one context: descriptors from which a client reads the failed DMA requests of
// its devices (uapi/iommufd_sim.h). A log is for one device or for all devices of the context; each
// log has its own copy of a record.
//
// Faults are recorded by threads that do DMA, which must not take the context's lock; the lock here
// is a leaf. A full log keeps its records. New ones are lost then, and the next record that is
// stored has the overflow flag.

internal import CUAPI
internal import IOMMU
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class FaultLogFiles: Sendable {
  /// The number of logs that one context can have.
  static let capacity = 256
  /// The number of records that one log holds.
  static let depth = 1024

  private struct Log {
    let queue: EventQueue<RecordLog>
    /// `nil` for all devices of the context.
    let device: ObjectID?
    /// Whether records were lost since the last one that was stored.
    var hasLost = false
  }

  private struct State {
    var logs: [UInt64: Log] = [:]
    var nextKey: UInt64 = 0
  }

  private let state = Mutex(State())

  /// Opens a log, which the release of the returned file closes.
  /// - Throws: `.noMemory` when the context has too many logs.
  func open(for device: ObjectID?) throws(Errno) -> QueueFile<RecordLog> {
    let file = state.withLock { state -> QueueFile<RecordLog>? in
      guard state.logs.count < Self.capacity else { return nil }
      let key = state.nextKey
      state.nextKey += 1
      let queue = EventQueue(RecordLog(capacity: Self.depth))
      state.logs[key] = Log(queue: queue, device: device)
      return QueueFile(
        queue,
        .init(
          recordSize: MemoryLayout<iommufd_sim_fault>.size, inodeName: "iommufd-sim-fault-log"),
        onRelease: { [weak self] in self?.close(key) })
    }
    guard let file else { throw .noMemory }
    return file
  }

  private func close(_ key: UInt64) {
    _ = state.withLock { $0.logs.removeValue(forKey: key) }
  }

  /// Copies a fault into every log that is for `device`. Called by a thread that does DMA.
  func record(_ record: FaultRecord, of device: ObjectID) {
    if state.withLock({ $0.logs.isEmpty }) { return }
    let fault = iommufd_sim_fault(record, of: device)
    let listeners = state.withLock { state in
      var listeners: [EventQueue<RecordLog>] = []
      for (key, log) in state.logs where log.device == nil || log.device == device {
        var fault = fault
        if log.hasLost { fault.flags |= IOMMUFD_SIM_FAULT_OVERFLOW.rawValue }
        let record = withUnsafeBytes(of: fault) { Array($0) }
        let isStored = log.queue.withContents { $0.append(record) }
        state.logs[key]?.hasLost = !isStored
        if isStored { listeners.append(log.queue) }
      }
      return listeners
    }
    for queue in listeners { queue.notify() }
  }
}

extension iommufd_sim_fault {
  init(_ record: FaultRecord, of device: ObjectID) {
    self.init()
    type = IOMMUFD_SIM_FAULT_TYPE_DMA.rawValue
    reason = UInt32(record.reason.code)
    flags |= record.writes ? IOMMUFD_SIM_FAULT_WRITE.rawValue : IOMMUFD_SIM_FAULT_READ.rawValue
    dev_id = device.rawValue
    requester = UInt32(record.requester.rawValue)
    if let pasid = record.pasid {
      flags |= IOMMUFD_SIM_FAULT_PASID_VALID.rawValue
      if record.executes { flags |= IOMMUFD_SIM_FAULT_EXEC.rawValue }
      if record.isPrivileged { flags |= IOMMUFD_SIM_FAULT_PRIV.rawValue }
      self.pasid = pasid.rawValue
    }
    iova = record.iova.rawValue
    switch record.reason {
    case .vtd:
      let register = VTdFaultRecordingRegister(record)
      raw = (register.lower, register.upper, 0, 0)
    case .smmuv3(let event):
      let words = SMMUv3EventRecord(record, event).words
      raw = (words[0], words[1], words[2], words[3])
    case .amdvi(let event):
      let words = AMDViEventEntry(record, event).words
      raw = (words[0], words[1], 0, 0)
    }
  }
}
