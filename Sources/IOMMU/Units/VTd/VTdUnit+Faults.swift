// Non-recoverable faults: VT-d §7.2 (reporting), §11.4.9 (fault status register).

internal import Synchronization

/// The fault recording registers and what goes with them.
struct FaultRecording {
  private var registers: [VTdFaultRecordingRegister?]
  private var next = 0
  /// PFO of FSTS_REG: a fault found no free register. Faults are not recorded until it is cleared.
  private(set) var overflowed = false
  /// The driver's interrupt handler.
  var sink: FaultSink?

  init(capacity: Int) { registers = Array(repeating: nil, count: capacity) }

  mutating func record(_ fault: FaultRecord) {
    guard !overflowed else { return }
    guard registers[next] == nil else {
      overflowed = true
      return
    }
    registers[next] = VTdFaultRecordingRegister(fault)
    next = (next + 1) % registers.count
  }

  /// Reads and clears all registers and the overflow flag, oldest first.
  mutating func take() -> [VTdFaultRecordingRegister] {
    let taken = (0..<registers.count).compactMap { registers[(next + $0) % registers.count] }
    registers = Array(repeating: nil, count: registers.count)
    overflowed = false
    return taken
  }
}

extension VTdUnit {
  /// Sets who is told of faults; replaces the one before.
  package func setFaultSink(_ sink: FaultSink?) { faults.withLock { $0.sink = sink } }

  /// Reads and clears the fault recording registers.
  package func takeFaultRecords() -> [VTdFaultRecordingRegister] {
    faults.withLock { $0.take() }
  }

  /// Records a fault and raises the fault event.
  func report(_ record: FaultRecord) {
    let sink = faults.withLock { faults in
      faults.record(record)
      return faults.sink
    }
    sink?(record)
  }
}
